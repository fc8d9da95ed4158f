// Random trees through everything in the store that writes or reads files, compared with what the kernel says
// of them. A failure prints its seed: KILN_FILE_SEED=<seed> KILN_FILE_SEEDS=1 runs that one,
// KILN_FILE_SEEDS=1000 more of them.
#include "store_fixture.hpp"

#include <algorithm>
#include <spawn.h>
#include <sys/wait.h>

#include <thread>

#include "store/hashing/content_hash.hpp"
#include "store/files/copy_tree.hpp"
#include "store/files/difference.hpp"
#include "filesync/receiver.hpp"
#include "filesync/sender.hpp"
#include "store/archive/layer_tar.hpp"
#include "store/files/same_tree.hpp"
#include "store/hashing/tree_digests.hpp"
#include "store/archive/unpack.hpp"
#include "tests/support/random_tree.hpp"
#include "tests/support/stream_pair.hpp"

using namespace kiln;
using namespace kiln::store;
using namespace kiln::store::testing;
using kiln::test::changed;
using kiln::test::file_seeds;
using kiln::test::scan_tree;
using kiln::test::tree;
using kiln::test::tree_difference;
using kiln::test::tree_entry;
using kiln::test::tree_maker;

namespace {

void check_same(const tree& got, const tree& expected) {
  auto difference = tree_difference(got, expected);
  if (!difference.empty()) FAIL_CHECK(difference);
  else SUCCEED();
}

/// Image layers have whole seconds.
tree in_seconds(tree t) {
  return changed(std::move(t), [](const std::string&, tree_entry& e) {
    auto seconds = *e.mtime_ns / 1'000'000'000;
    if (*e.mtime_ns % 1'000'000'000 < 0) --seconds;
    e.mtime_ns = seconds * 1'000'000'000;
  });
}

tree without_times(tree t) {
  return changed(std::move(t), [](const std::string&, tree_entry& e) { e.mtime_ns.reset(); });
}

std::string difference_tar(const fs::path& lower, const fs::path& upper, tar_detail detail) {
  string_sink sink;
  must(write_difference_tar(lower, upper, sink, {}, detail));
  return sink.text;
}

void unpack_text(const std::string& tar, const fs::path& to, const unpack_options& options = {}) {
  string_source source(tar);
  must(unpack_tar(source, to, options, {}));
}

void run_tar(std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), "tar");
  std::vector<char*> argv;
  for (auto& a : arguments) argv.push_back(a.data());
  argv.push_back(nullptr);
  pid_t pid = 0;
  REQUIRE(::posix_spawnp(&pid, "tar", nullptr, nullptr, argv.data(), environ) == 0);
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  REQUIRE(status == 0);
}

struct directories {
  temporary_root root;
  fs::path make(const char* name) {
    auto path = root.path() / name;
    fs::create_directories(path);
    return path;
  }
};

/// The same tree on a store: a random one below, changed above it.
struct two_layers {
  ref base, top;
  tree base_tree, top_tree;
};

two_layers make_layers(ref_store& store, tree_maker& maker) {
  two_layers out;
  auto s = begin(store, {});
  maker.fill(s.path(), 5 + maker.below(40));
  out.base_tree = scan_tree(s.path());
  out.base = end(store, std::move(s));
  s = begin(store, out.base);
  maker.mutate(s.path(), 1 + maker.below(12));
  out.top_tree = scan_tree(s.path());
  out.top = end(store, std::move(s));
  return out;
}

tree scan_ref(ref_store& store, const ref& r) { return scan_tree(mount_of(store, r).path()); }

}  // namespace

TEST_CASE("copies of random trees are those trees, and told apart once anything changed") {
  for (auto seed : file_seeds(8)) {
    INFO("seed " << seed);
    directories d;
    tree_maker maker(seed);
    auto from = d.make("from"), to = d.make("to");
    maker.fill(from, 5 + maker.below(60));
    must(copy_tree(from, to, {}, {}));
    auto expected = scan_tree(from);
    check_same(scan_tree(to), expected);
    CHECK(must(same_tree(from, to, {})));
    auto sum = [](const fs::path& top) {
      tree_digests digests(must(open_file(top, O_RDONLY | O_DIRECTORY)), job_context{});
      return must(digests.select({.path = "/"})).str();
    };
    CHECK(sum(from) == sum(to));
    maker.mutate(to, 1);
    auto now = scan_tree(to);
    // Which names one file has is no content.
    auto content = [](tree t) {
      return changed(without_times(std::move(t)),
                     [](const std::string&, tree_entry& e) { e.same_as.clear(); });
    };
    INFO(tree_difference(now, expected));
    CHECK((sum(from) == sum(to)) == (content(now) == content(expected)));
    if (now != expected) {
      auto links = [](tree t) {
        return changed(std::move(t), [](const std::string&, tree_entry& e) { e.same_as.clear(); });
      };
      if (links(now) != links(expected)) CHECK_FALSE(must(same_tree(from, to, {})));
    }
  }
}

TEST_CASE("random trees arrive by transfer over whatever was there") {
  for (auto seed : file_seeds(8)) {
    INFO("seed " << seed);
    directories d;
    // The protocol knows hard links of regular files only.
    tree_maker maker(seed, {.linked_specials = false});
    auto from = d.make("from"), to = d.make("to");
    maker.fill(from, 5 + maker.below(60));
    bool related = maker.one_in(2);
    if (related) {
      must(copy_tree(from, to, {}, {}));
      maker.mutate(to, 1 + maker.below(10));
    } else {
      maker.fill(to, maker.below(40));
    }
    auto send_over = [&](bool merge) {
      auto [a, b] = kiln::test::make_stream_pair();
      status sent;
      std::thread sender([&, end = a.get()] {
        auto files = filesync::open_directory(from.string());
        sent = files ? filesync::send(*end, **files) : status(files.error());
        end->writes_done();
      });
      filesync::receive_options options;
      options.merge = merge;
      auto received = filesync::receive(*b, to.string(), options);
      b.reset();
      sender.join();
      must(std::move(sent));
      must(std::move(received));
    };
    bool merge = maker.one_in(3);
    auto before = scan_tree(to);
    auto expected = scan_tree(from);
    send_over(merge);
    auto got = scan_tree(to);
    if (merge) {
      // What the sender has wins; below what it has as no directory nothing stays.
      for (const auto& [path, e] : before) {
        bool gone = expected.contains(path);
        for (auto slash = path.find('/'); slash != std::string::npos && !gone;
             slash = path.find('/', slash + 1))
          if (auto above = expected.find(path.substr(0, slash)); above != expected.end())
            gone = above->second.type != S_IFDIR;
        if (!gone) expected[path] = e;
      }
      // Attributes of directories that stay are added to, and links among old files may have lost their first
      // name.
      auto relax = [](tree t) {
        return changed(std::move(t), [](const std::string&, tree_entry& e) {
          if (e.type == S_IFDIR) e.xattrs.clear(), e.mtime_ns.reset();
          e.same_as.clear();
        });
      };
      check_same(relax(got), relax(expected));
    } else {
      // An entry that looks unchanged is not looked into for attributes: the protocol has it so.
      auto relax = [](tree t) {
        return changed(std::move(t), [](const std::string&, tree_entry& e) { e.xattrs.clear(); });
      };
      check_same(related ? relax(got)
                         : changed(got,
                                   [&](const std::string& p, tree_entry& e) {
                                     if (e.type == S_IFDIR && before.contains(p))
                                       e.xattrs = expected.at(p).xattrs;
                                   }),
                 related ? relax(expected) : expected);
      // Once more: nothing is left to change.
      send_over(false);
      check_same(scan_tree(to), got);
    }
  }
}

TEST_CASE("differences between random trees lead from one to the other, in tars and in directories") {
  for (auto seed : file_seeds(6)) {
    INFO("seed " << seed);
    directories d;
    tree_maker maker(seed);
    auto lower = d.make("lower"), upper = d.make("upper"), to = d.make("to"), applied = d.make("applied");
    maker.fill(lower, 5 + maker.below(40));
    must(copy_tree(lower, upper, {}, {}));
    maker.mutate(upper, 1 + maker.below(12));
    auto expected = scan_tree(upper);
    // As another node applies it, onto the lower tree; second names that a change touches only once are lost
    // in any archive of changes.
    auto no_links = [](tree t) {
      return changed(std::move(t), [](const std::string&, tree_entry& e) { e.same_as.clear(); });
    };
    auto told = [](tree t) {
      return changed(std::move(t), [](const std::string&, tree_entry& e) {
        if (e.type == S_IFDIR)
          e.mtime_ns.reset();  // a directory in which things changed is not itself a change
      });
    };
    must(copy_tree(lower, to, {}, {}));
    unpack_text(difference_tar(lower, upper, tar_detail::exact), to,
                {.on_whiteout = unpack_options::whiteouts::remove, .exact = true});
    check_same(told(no_links(scan_tree(to))), told(no_links(expected)));
    must(copy_tree(lower, applied, {}, {}));
    must(apply_changes(lower, upper, applied, {}));
    check_same(told(no_links(scan_tree(applied))), told(no_links(expected)));
    // And the whole of it, links and all.
    auto empty = d.make("empty"), whole = d.make("whole"), image = d.make("image"), gnu = d.make("gnu");
    unpack_text(difference_tar(empty, upper, tar_detail::exact), whole, {.exact = true});
    check_same(scan_tree(whole), expected);
    unpack_text(difference_tar(empty, upper, tar_detail::image), image, {.exact = true});
    check_same(scan_tree(image), in_seconds(expected));
    // GNU tar reads what we write, and we read what it writes.
    auto ours = d.root.path() / "ours.tar", theirs = d.root.path() / "theirs.tar";
    write(ours, difference_tar(empty, upper, tar_detail::exact));
    run_tar({"--extract", "--file", ours, "--directory", gnu, "--xattrs", "--xattrs-include=*",
             "--numeric-owner", "--same-permissions", "--same-owner", "--delay-directory-restore"});
    check_same(scan_tree(gnu), expected);
    run_tar({"--create", "--file", theirs, "--directory", upper, "--xattrs", "--xattrs-include=*",
             "--numeric-owner", "--format=posix", "--sparse", "."});
    auto read_back = d.make("read-back");
    string_source source(read(theirs));
    must(unpack_tar(source, read_back, {.exact = true}, {}));
    // GNU tar keeps second names of regular files and symlinks only.
    auto of_content = [](tree t) {
      return changed(std::move(t), [](const std::string&, tree_entry& e) {
        if (e.type != S_IFREG) e.same_as.clear();
      });
    };
    check_same(of_content(scan_tree(read_back)), of_content(expected));
  }
}

TEST_CASE("layers, merges, differences and their tars keep random trees") {
  for (auto seed : file_seeds(4)) {
    INFO("seed " << seed);
    temporary_root here, there, native;
    memory_provider provider;
    auto store = open_store(here);
    tree_maker maker(seed);
    auto l = make_layers(*store, maker);
    check_same(scan_ref(*store, l.base), l.base_tree);
    check_same(scan_ref(*store, l.top), l.top_tree);

    // The tars of the layers, pulled elsewhere, in an overlay and without one. A directory nothing happened
    // to but its time is no change.
    auto tars = must(store->layers().of(l.top, {}));
    for (auto kind : {snapshotter_kind::automatic, snapshotter_kind::native}) {
      INFO("snapshotter " << to_string(kind));
      auto other = open_store(kind == snapshotter_kind::native ? native : there, kind);
      ref pulled;
      for (const auto& layer : tars)
        pulled = must(other->layer(pulled, provider.add(tar_of(*store, layer.id)),
                                   std::shared_ptr<blob_provider>(&provider, [](auto*) {}), {}));
      auto relax = [](tree t) {
        return changed(in_seconds(std::move(t)), [](const std::string&, tree_entry& e) {
          if (e.type == S_IFDIR) e.mtime_ns.reset();
          else e.mtime_ns = std::max<std::int64_t>(*e.mtime_ns, 0);  // what Go cannot set is 1970
          e.same_as.clear();
        });
      };
      check_same(relax(scan_ref(*other, pulled)), relax(l.top_tree));
    }

    // What turns one into the other, computed between strangers, laid over the first again.
    auto s = begin(*store, {});
    maker.fill(s.path(), 5 + maker.below(30));
    auto stranger_tree = scan_tree(s.path());
    auto stranger = end(*store, std::move(s));
    auto no_links = [](tree t) {
      return changed(std::move(t), [](const std::string&, tree_entry& e) { e.same_as.clear(); });
    };
    for (const auto& [lower, upper, expected] : {std::tuple{l.base, l.top, l.top_tree},
                                                 {l.top, l.base, l.base_tree},
                                                 {l.base, stranger, stranger_tree}}) {
      auto difference = must(store->diff(lower, upper, {}));
      ref parts[] = {lower, difference};
      auto merged = must(store->merge(parts, {}));
      auto relax = [&](tree t) {
        return changed(no_links(std::move(t)), [](const std::string&, tree_entry& e) {
          if (e.type == S_IFDIR) e.mtime_ns.reset();
        });
      };
      check_same(relax(scan_ref(*store, merged)), relax(expected));
    }
    // Content is what counts for keys, however it is layered.
    ref twice[] = {l.top, must(store->diff({}, l.top, {}))};
    CHECK(must(content_checksum(*store, l.top, {}, {})) ==
          must(content_checksum(*store, must(store->merge(twice, {})), {}, {})));
  }
}
