#include "store/hashing/tree_digests.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>

#include "base/files.hpp"
#include "base/parallel.hpp"
#include "base/pattern.hpp"
#include "base/quoting.hpp"
#include "base/slash_path.hpp"
#include "configs/store.hpp"
#include "store/hashing/file_digest.hpp"

namespace kiln::store {

namespace {

std::string relative(const std::string& path) { return path.empty() ? "." : path.substr(1); }

std::string key_path(std::string_view path) {
  auto clean = clean_absolute(path);
  return clean == "/" ? std::string() : clean;
}

std::string base_of(const std::string& path) {
  auto name = path.substr(path.rfind('/') == std::string::npos ? 0 : path.rfind('/') + 1);
  return name.empty() ? (path.empty() ? "." : "/") : name;
}

/// Keys of the list hash: slashes become NUL, as upstream's tree keys.
std::string as_key(std::string_view path) {
  std::string key(path);
  std::replace(key.begin(), key.end(), '/', '\0');
  return key;
}

}  // namespace

// ---------------------------------------------------------------- looking at the tree

result<bool> tree_digests::look(const std::string& path, struct stat& info) const {
  // The kernel would read it up to there: another path, as deep again below each directory.
  if (path.find('\0') != std::string::npos)
    return make_error(errc::invalid_argument, "a NUL character in a path");
  if (::fstatat(root_.get(), relative(path).c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) return true;
  if (errno == ENOENT || errno == ENOTDIR) return false;
  return errno_error(errno, "stat " + path);
}

result<tree_digests::found> tree_digests::resolve(const std::string& path, bool follow_trailing) const {
  found at;
  KILN_TRY(at.exists, look("", at.info));
  std::string rest = path.empty() ? "" : path.substr(1);
  int links = 0;
  while (!rest.empty()) {
    auto slash = rest.find('/');
    auto part = rest.substr(0, slash);
    rest = slash == std::string::npos ? "" : rest.substr(slash + 1);
    auto next = key_path(at.path + "/" + part);
    struct stat info {};
    KILN_TRY(auto exists, look(next, info));
    bool stop_here = !follow_trailing && rest.find_first_not_of('/') == std::string::npos;
    if (!exists || !S_ISLNK(info.st_mode) || stop_here) {
      at = {std::move(next), exists, info};
      continue;
    }
    if (++links > limits::symlinks_followed) return make_error(errc::invalid_argument, "too many links");
    std::string target(limits::archive_name + 1, '\0');
    auto size = ::readlinkat(root_.get(), relative(next).c_str(), target.data(), target.size());
    if (size < 0) return errno_error(errno, "read link " + next);
    target.resize(static_cast<std::size_t>(size));
    if (!target.empty() && target[0] == '/') {
      at.path.clear();
      KILN_TRY(at.exists, look("", at.info));
    }
    rest = rest.empty() ? target : target + "/" + rest;
  }
  return at;
}

result<const std::vector<tree_digests::child>*> tree_digests::children_of(const std::string& path) {
  if (auto known = children_.find(path); known != children_.end()) return &known->second;
  KILN_TRY(auto directory, open_at(root_.get(), relative(path), O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  KILN_TRY(auto names, list_names(directory.get()));
  std::vector<child> all;
  all.reserve(names.size());
  for (auto& name : names) {
    child c;
    if (::fstatat(directory.get(), name.c_str(), &c.info, AT_SYMLINK_NOFOLLOW) != 0)
      return errno_error(errno, "stat " + path + "/" + name);
    c.name = std::move(name);
    all.push_back(std::move(c));
  }
  KILN_CHECK(job_.check());
  return &children_.emplace(path, std::move(all)).first->second;
}

result<tree_digests::stamp> tree_digests::stamp_of(const std::string& path, const struct stat& info) const {
  stamp s;
  s.inode = info.st_ino;
  s.modified_ns = std::int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
  s.size = info.st_size;
  s.mode = info.st_mode;
  s.uid = info.st_uid;
  s.gid = info.st_gid;
  struct statx more {};
  if (::statx(root_.get(), relative(path).c_str(), AT_SYMLINK_NOFOLLOW, STATX_BTIME, &more) == 0 &&
      (more.stx_mask & STATX_BTIME))
    s.born_ns = std::int64_t{more.stx_btime.tv_sec} * 1'000'000'000 + more.stx_btime.tv_nsec;
  return s;
}

// ---------------------------------------------------------------- computing

status tree_digests::want(const std::string& path, const struct stat& info) {
  bool is_directory = S_ISDIR(info.st_mode);
  auto key = is_directory ? path + "/" : path;
  if (known_.contains(key)) return {};
  if (!earlier_.empty() && !is_directory) {
    if (auto before = earlier_.find(key); before != earlier_.end() && before->second.of.born_ns != 0) {
      KILN_TRY(auto now, stamp_of(path, info));
      if (now == before->second.of) {
        known_[key] = before->second;
        return {};
      }
    }
  }
  known_[key] = {};  // being computed; filled in by compute()
  wanted_.push_back({std::move(key), path, info, {}});
  has_news_ = true;
  return {};
}

status tree_digests::want_tree(const std::string& path, const struct stat& info, int depth) {
  if (depth > limits::tree_depth) return make_error(errc::out_of_range, "directories are nested too deeply");
  if (!S_ISDIR(info.st_mode)) return want(path, info);
  if (auto known = known_.find(path); known != known_.end() && known->second.is_content) return {};
  KILN_CHECK(want(path, info));
  KILN_TRY(auto children, children_of(path));
  for (const auto& c : *children) KILN_CHECK(want_tree(path + "/" + c.name, c.info, depth + 1));
  return {};
}

status tree_digests::compute() {
  // Names of one inode have one digest: only the first is read.
  std::vector<std::pair<std::string, std::string>> copies;
  std::vector<wanted_file*> work;
  std::int64_t bytes = 0;
  for (auto& w : wanted_) {
    if (!S_ISDIR(w.info.st_mode) && w.info.st_nlink > 1) {
      auto [first, is_new] = linked_.try_emplace({w.info.st_dev, w.info.st_ino}, w.key);
      if (!is_new) {
        copies.emplace_back(w.key, first->second);
        continue;
      }
    }
    work.push_back(&w);
    if (S_ISREG(w.info.st_mode)) bytes += w.info.st_size;
  }
  auto hash = [&](std::size_t i) -> status {
    auto& w = *work[i];
    auto slash = w.path.rfind('/');
    bool is_root = w.path.empty();
    auto directory =
        is_root ? open_at(root_.get(), ".", O_PATH | O_DIRECTORY)
                : open_at(root_.get(), relative(w.path.substr(0, slash)), O_PATH | O_DIRECTORY | O_NOFOLLOW);
    auto sum = directory.ok()
                   ? file_digest(directory->get(), is_root ? "." : w.path.substr(slash + 1), w.info, job_)
                   : result<std::string>(std::move(directory).error());
    if (!sum.ok()) return std::move(sum).error().with_context("failed to hash " + w.path);
    w.digest = *std::move(sum);
    return {};
  };
  // Threads cost more than a few small files do.
  std::size_t threads =
      work.size() < 16 && bytes < (4 << 20)
          ? 1
          : std::min<std::size_t>(
                {limits::hash_threads, std::max(1u, std::thread::hardware_concurrency()), work.size()});
  if (auto failure = parallel_try("hash", work.size(), threads, hash); !failure.ok()) {
    for (const auto& w : wanted_) known_.erase(w.key);
    wanted_.clear();
    return failure;
  }
  for (auto* w : work) {
    auto& slot = known_[w->key];
    slot.text = std::move(w->digest);
    if (!S_ISDIR(w->info.st_mode)) {
      KILN_TRY(slot.of, stamp_of(w->path, w->info));
    }
  }
  for (const auto& [key, original] : copies) known_[key] = known_[original];
  wanted_.clear();
  return {};
}

result<std::string> tree_digests::tree_digest(const std::string& path, const struct stat& info) {
  if (!S_ISDIR(info.st_mode)) return digest_of(path);
  if (auto known = known_.find(path); known != known_.end() && known->second.is_content)
    return known->second.text;
  sha256_hasher hash;
  hash.update(std::string_view("\0", 1));
  hash.update(digest_of(path + "/"));
  KILN_TRY(auto children, children_of(path));
  for (const auto& c : *children) {
    hash.update(std::string_view("\0", 1));
    hash.update(c.name);
    KILN_TRY(auto sum, tree_digest(path + "/" + c.name, c.info));
    hash.update(sum);
  }
  known_digest content;
  content.text = hash.finish().str();
  content.is_content = true;
  auto text = content.text;
  known_[path] = std::move(content);
  return text;
}

// ---------------------------------------------------------------- selectors

result<std::string> tree_digests::plain(const std::string& path, bool follow_trailing) {
  KILN_TRY(auto at, resolve(path, follow_trailing));
  if (!at.exists) return make_error(errc::not_found, "\"" + path + "\": not found");
  KILN_CHECK(want_tree(at.path, at.info, 0));
  KILN_CHECK(compute());
  return tree_digest(at.path, at.info);
}

result<digest> tree_digests::select(const content_selector& selector) {
  auto path = key_path(selector.path);
  if (!selector.wildcard && selector.include_patterns.empty() && selector.exclude_patterns.empty()) {
    KILN_TRY(auto sum, plain(path, selector.follow_links));
    return digest::trusted(std::move(sum));
  }
  return picked(selector, path);
}

/// Something the walk came by: a file, or a directory's header.
struct tree_digests::item {
  std::string path;  // as the selector names it
  std::string real;  // where it is
  struct stat info {};
  bool included = false;
  bool follow = false;
  pattern_list::match_info include, exclude;
};

/// One walk below the part of the path without wildcards, in the order of upstream's tree.
struct tree_digests::pattern_walk {
  tree_digests& tree;
  const content_selector& selector;
  std::string path;
  pattern_list include, exclude;
  std::optional<path_pattern> wildcard;
  std::string last_matched;
  std::vector<std::shared_ptr<item>> parents;
  std::vector<std::shared_ptr<item>> picked = {};

  bool should_include(const std::string& candidate, item& it, const item* parent) const {
    static const pattern_list::match_info unknown;
    if (!include.empty() && !include.matches(candidate, parent ? parent->include : unknown, it.include))
      return false;
    if (!exclude.empty() && exclude.matches(candidate, parent ? parent->exclude : unknown, it.exclude))
      return false;
    return true;
  }

  static std::string below(const std::string& name, const std::string& top) {
    auto text = name + "/";
    if (text.compare(0, top.size() + 1, top + "/") == 0) text.erase(0, top.size() + 1);
    if (!text.empty() && text.back() == '/') text.pop_back();
    return text;
  }

  status visit(const std::string& name, const std::string& real, const struct stat& info, int depth) {
    if (depth > limits::tree_depth)
      return make_error(errc::out_of_range, "directories are nested too deeply");
    bool is_directory = S_ISDIR(info.st_mode);
    while (!parents.empty() &&
           name.compare(0, parents.back()->path.size() + 1, parents.back()->path + "/") != 0)
      parents.pop_back();
    auto* parent = parents.empty() ? nullptr : parents.back().get();
    auto it = std::make_shared<item>();
    it->path = name;
    it->real = real;
    it->info = info;
    it->follow = !parent && selector.follow_links;
    bool skip = false;
    if (wildcard && !path.empty() &&
        (last_matched.empty() || name.compare(0, last_matched.size() + 1, last_matched + "/") != 0)) {
      if (wildcard->matches(name)) last_matched = name;
      else skip = true;
    }
    if (!skip) {
      bool wanted = should_include(below(name, wildcard ? last_matched : path), *it, parent);
      if (wanted) {
        for (auto& p : parents)
          if (!p->included) {
            picked.push_back(p);
            p->included = true;
          }
        it->included = true;
        picked.push_back(it);
      }
      if (is_directory) parents.push_back(it);
    }
    if (!is_directory) return {};
    KILN_TRY(auto children, tree.children_of(real));
    for (const auto& c : *children)
      KILN_CHECK(visit(name + "/" + c.name, real + "/" + c.name, c.info, depth + 1));
    return {};
  }
};

result<digest> tree_digests::picked(const content_selector& selector, const std::string& path) {
  pattern_walk walk{*this, selector, path, {}, {}, std::nullopt, {}, {}};
  auto compile = [](const std::vector<std::string>& patterns, std::string_view what) -> result<pattern_list> {
    auto list = pattern_list::compile(patterns);
    if (list.ok()) return list;
    return std::move(list).error().with_context("invalid " + std::string(what) + ": " + bracketed(patterns));
  };
  KILN_TRY(walk.include, compile(selector.include_patterns, "includepatterns"));
  KILN_TRY(walk.exclude, compile(selector.exclude_patterns, "excludepatterns"));
  // Links are followed in the part before any wildcard, and there only.
  std::string prefix = path;
  bool follow = false;
  if (selector.wildcard) {
    KILN_TRY(walk.wildcard, path_pattern::compile(path, path_pattern::dialect::match));
    prefix.clear();
    for (std::size_t at = 1; at <= path.size();) {
      auto slash = std::min(path.find('/', at), path.size());
      if (has_wildcard(std::string_view(path).substr(at, slash - at))) {
        follow = true;
        break;
      }
      prefix = path.substr(0, slash);
      at = slash + 1;
    }
  }
  KILN_TRY(auto start, resolve(prefix, follow));
  if (start.exists) KILN_CHECK(walk.visit(prefix, start.path, start.info, 0));

  for (const auto& required : selector.required_paths) {
    bool there = std::any_of(walk.picked.begin(), walk.picked.end(), [&](const auto& it) {
      return it->path.compare(0, required.size(), required) == 0;
    });
    if (!there) return make_error(errc::not_found, "\"" + required + "\": not found");
  }
  // Nothing there is not the same as nothing that matches: copying it is an error, which no cache may hide.
  if (!start.exists && selector.wildcard) return sha256("kiln.missing.v0:" + prefix);
  for (const auto& it : walk.picked) KILN_CHECK(want(it->real, it->info));
  KILN_CHECK(compute());
  std::vector<std::string> sums;
  for (const auto& it : walk.picked) {
    if (it->follow && S_ISLNK(it->info.st_mode)) {
      KILN_TRY(auto sum, plain(it->path, selector.follow_links));
      sums.push_back(std::move(sum));
    } else {
      sums.push_back(digest_of(S_ISDIR(it->info.st_mode) ? it->real + "/" : it->real));
    }
  }
  if (walk.picked.empty()) return sha256("");
  if (walk.picked.size() == 1 && base_of(path.empty() ? "" : path) == base_of(walk.picked[0]->path))
    return digest::trusted(sums[0]);
  sha256_hasher hash;
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const auto& name = walk.picked[i]->path;
    auto key = as_key(
        name.compare(0, prefix.size(), prefix) == 0 ? std::string_view(name).substr(prefix.size()) : name);
    hash.update(key.empty() ? std::string_view("\0", 1) : std::string_view(key));
    hash.update(sums[i]);
  }
  return hash.finish();
}

// ---------------------------------------------------------------- keeping

namespace {

constexpr std::string_view format_mark = "kiln-tree-1\n";

template <class T>
void append(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <class T>
bool take(std::string_view& in, T& value) {
  if (in.size() < sizeof value) return false;
  std::memcpy(&value, in.data(), sizeof value);
  in.remove_prefix(sizeof value);
  return true;
}

}  // namespace

std::string tree_digests::save() const {
  std::string out(format_mark);
  for (const auto& [key, known] : known_) {
    if (known.text.empty()) continue;
    append(out, static_cast<std::uint32_t>(key.size()));
    out += key;
    append(out, static_cast<std::uint8_t>(known.text.size()));
    out += known.text;
    append(out, static_cast<std::uint8_t>(known.is_content));
    append(out, known.of);
  }
  return out;
}

namespace {

template <class Visit>
void parse_saved(std::string_view saved, const Visit& visit) {
  if (saved.substr(0, format_mark.size()) != format_mark) return;
  saved.remove_prefix(format_mark.size());
  while (visit(saved)) {
  }
}

}  // namespace

void tree_digests::load(std::string_view saved) {
  parse_saved(saved, [this](std::string_view& in) {
    std::uint32_t key_size = 0;
    if (!take(in, key_size) || in.size() < key_size) return false;
    auto key = in.substr(0, key_size);
    in.remove_prefix(key_size);
    std::uint8_t text_size = 0, is_content = 0;
    if (!take(in, text_size) || in.size() < text_size) return false;
    known_digest known;
    known.text = in.substr(0, text_size);
    in.remove_prefix(text_size);
    if (!take(in, is_content) || !take(in, known.of)) return false;
    known.is_content = is_content != 0;
    known_.emplace(key, std::move(known));
    return true;
  });
}

void tree_digests::load_earlier(std::string_view saved) {
  auto own = std::move(known_);
  known_.clear();
  load(saved);
  std::erase_if(known_, [](const auto& k) { return k.second.is_content; });
  earlier_ = std::move(known_);
  known_ = std::move(own);
}

}  // namespace kiln::store
