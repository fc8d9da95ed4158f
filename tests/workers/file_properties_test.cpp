// The copy action on random trees, compared with a naive model of `cp -a` with Docker's rules of where things
// land. A failure prints its seed: KILN_FILE_SEED=<seed> KILN_FILE_SEEDS=1 runs that one,
// KILN_FILE_SEEDS=1000 more of them.
#include "workers/ops/file_actions.hpp"

#include <catch2/catch.hpp>

#include <fcntl.h>

#include "base/mode_text.hpp"
#include "base/pattern.hpp"
#include "base/unique_fd.hpp"
#include "store/files/copy_tree.hpp"
#include "tests/support/random_tree.hpp"
#include "tests/support/temp_dir.hpp"

using namespace kiln;
using namespace kiln::workers;
using namespace kiln::test;
namespace fs = std::filesystem;

namespace {

std::string parent_of(const std::string& path) {
  auto slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash);
}
std::string join(const std::string& a, const std::string& b) {
  return a.empty() ? b : b.empty() ? a : a + "/" + b;
}

/// What copying should make of two trees. Paths are as in a tree, without leading slash; here the root, "",
/// is in it.
struct model {
  const tree& source;
  tree target;
  pb::FileActionCopy action = {};
  std::optional<file_owner> owner = {};
  bool fails = false;

  bool is_directory(const tree& t, const std::string& path) const {
    auto e = t.find(path);
    return e != t.end() && e->second.type == S_IFDIR;
  }

  /// Something came or went in a directory.
  void touched(const std::string& path) {
    if (auto e = target.find(path); e != target.end()) e->second.mtime_ns.reset();
  }

  /// New directories on the way: the number of the action for a mode, its owner.
  void make_directories(const std::string& path) {
    if (path.empty() || fails) return;
    make_directories(parent_of(path));
    if (auto e = target.find(path); e != target.end()) {
      if (e->second.type != S_IFDIR) fails = true;
      return;
    }
    tree_entry made;
    made.type = S_IFDIR;
    made.mode =
        !action.modestr().empty() || action.mode() == -1 ? 0755 : static_cast<mode_t>(action.mode()) & 0777;
    if (owner) made.uid = owner->uid, made.gid = owner->gid;
    touched(parent_of(path));
    target[path] = made;
  }

  void dress(tree_entry& e) const {
    if (owner) e.uid = owner->uid, e.gid = owner->gid;
    if (e.type == S_IFLNK) return;
    if (!action.modestr().empty()) e.mode = mode_change::parse(action.modestr())->apply(e.type | e.mode);
    else if (action.mode() != -1) e.mode = static_cast<mode_t>(action.mode()) & 07777;
  }
  void set_time(tree_entry& e, const tree_entry& from) const {
    e.mtime_ns = action.timestamp() != -1 ? action.timestamp() : from.mtime_ns;
  }

  struct directory {
    std::string from, to;
    bool overwrite = false, there = false, made = false;
  };

  /// Makes what is above a match and was not made yet.
  void ensure(std::vector<directory>& above) {
    for (auto& d : above) {
      if (d.there || fails) continue;
      d.there = true;
      auto& from = source.at(d.from);
      auto e = target.find(d.to);
      if (e != target.end() && e->second.type != S_IFDIR && action.alwaysreplaceexistingdestpaths()) {
        target.erase(e);
        e = target.end();
      }
      if (e == target.end()) {
        touched(parent_of(d.to));
        auto fresh = from;
        fresh.same_as.clear();
        target[d.to] = fresh;
        d.made = true;
      } else if (e->second.type != S_IFDIR) {
        fails = true;
      } else if (d.overwrite) {
        e->second.mode = from.mode;
      }
    }
  }

  void copy(const std::string& from, const std::string& to, const std::string& relative, bool overwrite,
            std::vector<directory>& above, const pattern_list& include, const pattern_list& exclude) {
    if (fails) return;
    bool included = relative.empty() || include.empty() || include.matches(relative);
    if (!relative.empty() && !exclude.empty() && exclude.matches(relative)) included = false;
    const auto& e = source.at(from);
    if (e.type == S_IFDIR) {
      above.push_back({from, to, overwrite});
      if (included) ensure(above);
      for (const auto& [path, child] : source)
        if (parent_of(path) == from && path != from)
          copy(path, join(to, path.substr(from.empty() ? 0 : from.size() + 1)),
               join(relative, path.substr(from.empty() ? 0 : from.size() + 1)), true, above, include,
               exclude);
      auto d = above.back();
      above.pop_back();
      if (fails || !d.there) return;
      auto& made = target.at(to);
      if (d.made || (included && overwrite)) {
        auto old = made.xattrs;
        made = e;
        made.same_as.clear();
        for (const auto& [k, v] : old) made.xattrs.try_emplace(k, v);
        dress(made);
        set_time(made, e);
      } else if (included) {
        set_time(made, e);
      }
      return;
    }
    if (!included) return;
    ensure(above);
    if (fails) return;
    if (is_directory(target, to)) {
      if (to.empty() || !action.alwaysreplaceexistingdestpaths()) {
        fails = true;
        return;
      }
      std::erase_if(target, [&](const auto& t) { return t.first == to || t.first.starts_with(to + "/"); });
    }
    touched(parent_of(to));
    auto fresh = e;
    fresh.same_as.clear();
    dress(fresh);
    set_time(fresh, e);
    target[to] = fresh;
  }

  void run(const std::string& from, const std::string& destination) {
    bool slash = destination.empty() || destination.ends_with('/');
    auto to = destination;
    while (to.ends_with('/')) to.pop_back();
    make_directories(slash ? to : parent_of(to));
    if (fails) return;
    bool directory = is_directory(source, from);
    bool exists = target.contains(to);
    bool contents = action.dircopycontents();
    if ((!contents && directory && exists) || (!directory && exists && is_directory(target, to)))
      to = join(to, from.substr(from.rfind('/') == std::string::npos ? 0 : from.rfind('/') + 1));
    make_directories(contents && directory && !exists ? to : parent_of(to));
    auto compile = [](const auto& patterns) {
      return *pattern_list::compile({patterns.begin(), patterns.end()});
    };
    std::vector<model::directory> above;
    copy(from, to, "", false, above, compile(action.include_patterns()), compile(action.exclude_patterns()));
  }
};

/// Links are compared by what they are among the copied files of one source; the model does not follow old
/// ones.
tree comparable(tree t) {
  return changed(std::move(t), [](const std::string&, tree_entry& e) { e.same_as.clear(); });
}

template <class Map>
std::string pick(tree_maker& maker, const Map& from) {
  if (from.empty()) return "";
  auto at = from.begin();
  std::advance(at, static_cast<std::ptrdiff_t>(maker.below(from.size())));
  return at->first;
}

std::string escaped(const std::string& name) {
  std::string out;
  for (char c : name) {
    if (std::string_view("*?[]\\").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

TEST_CASE("copies of random trees into random trees are what the model says") {
  int failures = 0, copies = 0;
  for (auto seed : file_seeds(80)) {
    INFO("seed " << seed);
    temp_dir from, to;
    tree_maker maker(seed, {.linked_specials = false});
    maker.fill(from.path(), 5 + maker.below(40));
    if (maker.one_in(2)) {
      REQUIRE(store::copy_tree(from.path(), to.path(), {}, {}).ok());
      maker.mutate(to.path(), 1 + maker.below(8));
    } else {
      maker.fill(to.path(), maker.below(30));
    }
    auto source = scan_tree(from.path());
    source[""] = tree_scanner(from.path()).entry("");
    model m{source, scan_tree(to.path())};
    m.target[""] = tree_scanner(to.path()).entry("");
    auto& a = m.action;
    auto src = maker.one_in(5) ? std::string() : pick(maker, source);
    // A symlink on the way is another test's affair; here what is named is what is meant.
    auto dst = pick(maker, m.target);
    while (!dst.empty() && m.target.at(dst).type != S_IFDIR) dst = parent_of(dst);
    if (maker.one_in(2)) dst = join(dst, maker.name());
    if (maker.one_in(4)) dst = join(dst, maker.name());
    for (auto part = dst; !part.empty(); part = parent_of(part))
      if (auto e = m.target.find(part); e != m.target.end() && e->second.type == S_IFLNK)
        dst = parent_of(part);
    auto destination = dst + (maker.one_in(3) ? "/" : "");
    a.set_src("/" + src);
    a.set_dest("/" + destination);
    a.set_createdestpath(true);
    a.set_dircopycontents(maker.one_in(2));
    a.set_timestamp(maker.one_in(4) ? maker.time() : -1);
    a.set_mode(-1);
    static const char* texts[] = {"u=rwX,go=rX", "go-rwx", "+X",      "a=r,u+w,+X",
                                  "g=u",         "o=",     "u+s,g+s", "0640"};
    switch (maker.below(4)) {
      case 0: a.set_mode(static_cast<int>(maker.below(010000))); break;
      case 1:
        a.set_mode(0);
        a.set_modestr(texts[maker.below(std::size(texts))]);
        break;
      default: break;
    }
    if (maker.one_in(3)) m.owner = file_owner{maker.owner(), maker.owner()};
    auto pattern = [&] {
      auto name = pick(maker, source);
      auto base = name.substr(name.rfind('/') == std::string::npos ? 0 : name.rfind('/') + 1);
      switch (maker.below(4)) {
        case 0: return escaped(name);
        case 1: return "**/" + escaped(base);
        case 2: return escaped(base.substr(0, 1)) + "*";
        default: return std::string("**/*.c");
      }
    };
    if (maker.one_in(4)) a.add_include_patterns(pattern());
    else a.set_alwaysreplaceexistingdestpaths(maker.one_in(3));
    for (std::uint64_t i = maker.one_in(4) ? 1 + maker.below(2) : 0; i > 0; --i) {
      auto p = pattern();
      if (pattern_list::compile({p}).ok()) a.add_exclude_patterns(maker.one_in(5) ? "!" + p : p);
    }
    for (const auto& p : a.include_patterns())
      if (!pattern_list::compile({p}).ok()) a.clear_include_patterns();
    INFO(a.ShortDebugString() << (m.owner ? " owner " + std::to_string(m.owner->uid) : ""));
    m.run(src, destination);
    unique_fd from_fd{::open(from.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    unique_fd to_fd{::open(to.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    auto done = copy_path(from_fd.get(), to_fd.get(), to.path().string(), a, m.owner, {});
    INFO((done.ok() ? "" : done.error().message));
    CHECK(done.ok() == !m.fails);
    ++copies;
    if (m.fails || !done.ok()) {
      ++failures;
      continue;
    }
    auto got = scan_tree(to.path());
    got[""] = tree_scanner(to.path()).entry("");
    for (auto& [path, e] : got)
      if (auto expected = m.target.find(path); expected != m.target.end() && !expected->second.mtime_ns)
        e.mtime_ns.reset();
    auto difference = tree_difference(comparable(got), comparable(m.target));
    if (!difference.empty()) FAIL_CHECK(difference);
    // Names of one file stay names of one file, where all of them are copied.
    if (!src.empty() || !a.dircopycontents() || a.include_patterns_size() + a.exclude_patterns_size() > 0)
      continue;
    auto inode = [&](const std::string& path) {
      struct stat st {};
      REQUIRE(::lstat((to.path() / dst / path).c_str(), &st) == 0);
      return st.st_ino;
    };
    for (const auto& [path, e] : source)
      if (e.type == S_IFREG && !e.same_as.empty()) CHECK(inode(path) == inode(e.same_as));
  }
  if (copies > 50) CHECK(failures * 2 < copies);  // else the test tries too little
}
