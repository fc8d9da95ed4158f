// The tree transfer, both sides against each other and against peers that lie.
#include <catch2/catch.hpp>

#include <chrono>
#include <map>
#include <set>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <thread>

#include "filesync/receiver.hpp"
#include "filesync/sender.hpp"
#include "tests/support/stream_pair.hpp"
#include "tests/support/temp_dir.hpp"
#include "wire.pb.h"

using namespace kiln;
using namespace kiln::filesync;
using kiln::test::make_stream_pair;
using kiln::test::read_file;
using kiln::test::temp_dir;
using kiln::test::write_file;
namespace fs = std::filesystem;
using packet = fsutil::types::Packet;

namespace {

struct outcome {
  status sent;
  status received;
  std::int64_t bytes = 0;
};

outcome transfer(const fs::path& from, const fs::path& to, walk_options walk = {},
                 receive_options options = {}) {
  auto [a, b] = make_stream_pair();
  outcome out;
  std::thread sender([&, end = a.get()] {
    auto tree = open_directory(from.string(), std::move(walk));
    out.sent = tree ? send(*end, **tree) : status(tree.error());
    end->writes_done();
  });
  options.progress = [&](std::int64_t bytes, bool) { out.bytes = bytes; };
  out.received = receive(*b, to.string(), options);
  b.reset();
  sender.join();
  return out;
}

// "path mode target-or-content" of everything below a directory.
std::set<std::string> listing(const fs::path& dir) {
  std::set<std::string> out;
  for (const auto& e : fs::recursive_directory_iterator(dir)) {
    std::string line = e.path().lexically_relative(dir).string();
    struct stat st {};
    REQUIRE(::lstat(e.path().c_str(), &st) == 0);
    char mode[16];
    std::snprintf(mode, sizeof mode, " %06o ", st.st_mode);
    line += mode;
    if (S_ISLNK(st.st_mode)) line += fs::read_symlink(e.path()).string();
    if (S_ISREG(st.st_mode)) line += read_file(e.path());
    out.insert(line);
  }
  return out;
}

std::set<std::string> names(const fs::path& dir) {
  std::set<std::string> out;
  for (const auto& e : fs::recursive_directory_iterator(dir))
    out.insert(e.path().lexically_relative(dir).string());
  return out;
}

void set_mtime(const fs::path& p, std::int64_t seconds) {
  timespec t[2] = {{seconds, 123456789}, {seconds, 123456789}};
  REQUIRE(::utimensat(AT_FDCWD, p.c_str(), t, AT_SYMLINK_NOFOLLOW) == 0);
}

// A sender that says exactly these packets; what the receiver makes of it.
status receive_from(const std::vector<packet>& script, const fs::path& to) {
  auto [a, b] = make_stream_pair();
  std::thread peer([&, end = a.get()] {
    for (const auto& p : script) {
      if (!end->write(p.SerializeAsString())) break;
    }
    std::string bytes;
    packet p;
    while (end->read(bytes) && p.ParseFromString(bytes) && p.type() == packet::PACKET_REQ) {
    }
    end->writes_done();
  });
  receive_options options;
  options.cancel = [end = b.get()] { end->break_off(); };
  status s = receive(*b, to.string(), options);
  b.reset();
  peer.join();
  return s;
}

packet stat_packet(const std::string& path, std::uint32_t mode, const std::string& link = "") {
  packet p;
  p.set_type(packet::PACKET_STAT);
  p.mutable_stat()->set_path(path);
  p.mutable_stat()->set_mode(mode);
  p.mutable_stat()->set_linkname(link);
  return p;
}

packet data_packet(std::uint32_t id, const std::string& data) {
  packet p;
  p.set_type(packet::PACKET_DATA);
  p.set_id(id);
  p.set_data(data);
  return p;
}

packet end_of_stats() {
  packet p;
  p.set_type(packet::PACKET_STAT);
  return p;
}

}  // namespace

TEST_CASE("a tree arrives with every kind of entry as it was sent") {
  temp_dir from, to;
  write_file(from / "a/file", "hello");
  write_file(from / "a-b/x", "sorted after a/");
  write_file(from / "empty", "");
  write_file(from / "big", std::string(1'000'000, 'x') + "end");
  fs::create_symlink("a/file", from / "link");
  fs::create_symlink("/etc/passwd", from / "absolute");
  fs::create_hard_link(from / "a/file", from / "z-hard");
  fs::create_directories(from / "dir/deep/deeper");
  REQUIRE(::mkfifo((from / "fifo").c_str(), 0640) == 0);
  REQUIRE(::mknod((from / "null").c_str(), S_IFCHR | 0666, makedev(1, 3)) == 0);
  REQUIRE(::chmod((from / "a/file").c_str(), 04751) == 0);
  REQUIRE(::chmod((from / "dir").c_str(), 01555) == 0);
  REQUIRE(::chown((from / "empty").c_str(), 12, 34) == 0);
  REQUIRE(::setxattr((from / "big").c_str(), "user.note", "xyz", 3, 0) == 0);
  set_mtime(from / "big", 1'000'000'000);
  set_mtime(from / "link", 1'100'000'000);
  set_mtime(from / "dir", 1'200'000'000);

  outcome o = transfer(from.path(), to.path());
  REQUIRE(o.sent.ok());
  REQUIRE(o.received.ok());
  CHECK(listing(to.path()) == listing(from.path()));
  CHECK(fs::hard_link_count(to / "a/file") == 2);
  CHECK(fs::equivalent(to / "a/file", to / "z-hard"));
  struct stat st {};
  REQUIRE(::lstat((to / "empty").c_str(), &st) == 0);
  CHECK((st.st_uid == 12 && st.st_gid == 34));
  for (const char* name : {"big", "link", "dir"}) {
    struct stat a {
    }, b{};
    REQUIRE(::lstat((from / name).c_str(), &a) == 0);
    REQUIRE(::lstat((to / name).c_str(), &b) == 0);
    CHECK((a.st_mtim.tv_sec == b.st_mtim.tv_sec && a.st_mtim.tv_nsec == b.st_mtim.tv_nsec));
  }
  REQUIRE(::lstat((to / "null").c_str(), &st) == 0);
  CHECK(st.st_rdev == makedev(1, 3));
  char value[8];
  CHECK(::getxattr((to / "big").c_str(), "user.note", value, sizeof value) == 3);
}

TEST_CASE("a second transfer sends only what changed, and never writes into files that were there") {
  temp_dir from, to, copy;
  write_file(from / "same", std::string(100'000, 's'));
  write_file(from / "changed", "one");
  write_file(from / "gone/inside", "x");
  write_file(from / "file-to-dir", "x");
  write_file(from / "dir-to-file/x", "x");
  fs::create_hard_link(from / "same", from / "same2");
  REQUIRE(transfer(from.path(), to.path()).received.ok());
  fs::create_hard_link(to / "changed", copy / "changed");

  write_file(from / "changed", "two");
  set_mtime(from / "changed", 1'300'000'000);
  fs::remove_all(from / "gone");
  fs::remove(from / "file-to-dir");
  write_file(from / "file-to-dir/now", "y");
  fs::remove_all(from / "dir-to-file");
  write_file(from / "dir-to-file", "z");
  outcome o = transfer(from.path(), to.path());
  REQUIRE(o.received.ok());
  CHECK(listing(to.path()) == listing(from.path()));
  CHECK(o.bytes < 2000);
  CHECK(read_file(copy / "changed") == "one");
  CHECK(fs::equivalent(to / "same", to / "same2"));

  SECTION("a new owner or mode alone is enough to be asked for") {
    REQUIRE(::chmod((from / "same").c_str(), 0600) == 0);
    REQUIRE(transfer(from.path(), to.path()).bytes > 100'000);
    CHECK(listing(to.path()) == listing(from.path()));
  }
  SECTION("without differ everything is asked for") {
    receive_options options;
    options.differ = differ::none;
    CHECK(transfer(from.path(), to.path(), {}, options).bytes > 100'000);
    CHECK(fs::equivalent(to / "same", to / "same2"));
  }
  SECTION("a merge keeps what the sender does not have") {
    write_file(to / "mine", "m");
    fs::create_directory_symlink("/nowhere", to / "sub");
    write_file(from / "sub/x", "x");
    receive_options options;
    options.merge = true;
    REQUIRE(transfer(from.path(), to.path(), {}, options).received.ok());
    CHECK(read_file(to / "mine") == "m");
    CHECK(read_file(to / "sub/x") == "x");
    CHECK(!fs::is_symlink(to / "sub"));
  }
}

TEST_CASE("names and link targets that are no UTF-8 arrive as they are, changed and unchanged ones") {
  temp_dir from, to;
  write_file(from / "latin\xe9.txt", "8");
  write_file(from / "sub/\xff\xfe", "9");
  write_file(from / "sub\xe9/x", "10");
  fs::create_symlink("latin\xe9.txt", from / "lnk");
  fs::create_hard_link(from / "sub/\xff\xfe", from / "z\xc3");
  REQUIRE(::setxattr((from / "sub/\xff\xfe").c_str(), "user.\xe9", "v\xe9", 2, 0) == 0);
  for (int round = 0; round < 2; ++round) {
    auto o = transfer(from.path(), to.path());
    REQUIRE(o.sent.ok());
    REQUIRE(o.received.ok());
    CHECK(listing(to.path()) == listing(from.path()));
    char value[8];
    CHECK(::getxattr((to / "z\xc3").c_str(), "user.\xe9", value, sizeof value) == 2);
  }
  fs::remove(from / "latin\xe9.txt");
  REQUIRE(transfer(from.path(), to.path()).received.ok());
  CHECK(listing(to.path()) == listing(from.path()));
  temp_dir picked;
  walk_options walk;
  walk.include_patterns = {"sub/\xff?"};
  walk.exclude_patterns = {"z*"};
  REQUIRE(transfer(from.path(), picked.path(), walk).received.ok());
  CHECK(names(picked.path()) == std::set<std::string>{"sub", "sub/\xff\xfe"});
  temp_dir rest;
  walk = {};
  walk.exclude_patterns = {"sub/\xff\xfe", "sub\xe9"};
  walk.follow_paths = {"sub*", "lnk"};
  REQUIRE(transfer(from.path(), rest.path(), walk).received.ok());
  CHECK(names(rest.path()) == std::set<std::string>{"lnk", "sub"});
}

TEST_CASE("include, exclude and follow paths choose what is sent") {
  temp_dir from;
  write_file(from / "src/a.c", "a");
  write_file(from / "src/b.h", "b");
  write_file(from / "src/sub/c.c", "c");
  write_file(from / "doc/x.md", "x");
  write_file(from / "node_modules/keep/y", "y");
  write_file(from / "node_modules/drop/z", "z");
  fs::create_symlink("../src/a.c", from / "doc/link");
  fs::create_symlink("doc", from / "current");
  auto sent = [&](walk_options w) {
    temp_dir to;
    auto o = transfer(from.path(), to.path(), std::move(w));
    REQUIRE(o.sent.ok());
    REQUIRE(o.received.ok());
    return names(to.path());
  };
  using set = std::set<std::string>;
  walk_options w;
  SECTION("wildcards include, with their parents") {
    w.include_patterns = {"**/*.c"};
    CHECK(sent(w) == set{"src", "src/a.c", "src/sub", "src/sub/c.c"});
  }
  SECTION("a plain include takes a whole directory") {
    w.include_patterns = {"src/sub"};
    CHECK(sent(w) == set{"src", "src/sub", "src/sub/c.c"});
  }
  SECTION("excludes can take back") {
    w.exclude_patterns = {"node_modules", "!node_modules/keep", "src", "doc", "current"};
    CHECK(sent(w) == set{"node_modules", "node_modules/keep", "node_modules/keep/y"});
  }
  SECTION("follow paths bring their links and targets") {
    w.follow_paths = {"current/link"};
    CHECK(sent(w) == set{"current", "doc", "doc/link", "src", "src/a.c"});
  }
  SECTION("follow paths take wildcards, and missing paths match nothing") {
    w.follow_paths = {"missing"};
    CHECK(sent(w).empty());
    w.follow_paths = {"c*"};
    CHECK(sent(w) == set{"current", "doc", "doc/link", "doc/x.md"});
  }
  SECTION("the root as follow path sends everything") {
    w.follow_paths = {"/"};
    CHECK(sent(w).size() == 14);
  }
  SECTION("bad patterns are refused by name") {
    w.include_patterns = {"a[b"};
    auto tree = open_directory(from.path().string(), w);
    REQUIRE(!tree.ok());
    CHECK(tree.error().code == errc::invalid_argument);
    CHECK(tree.error().message.find("a[b") != std::string::npos);
  }
}

TEST_CASE("a hard link whose first name is filtered out becomes the file") {
  temp_dir from, to;
  write_file(from / "a", "data");
  fs::create_hard_link(from / "a", from / "b");
  fs::create_hard_link(from / "a", from / "c");
  walk_options w;
  w.exclude_patterns = {"a"};
  REQUIRE(transfer(from.path(), to.path(), w).received.ok());
  CHECK(names(to.path()) == std::set<std::string>{"b", "c"});
  CHECK(fs::equivalent(to / "b", to / "c"));
  CHECK(read_file(to / "c") == "data");
}

TEST_CASE("a metadata-only transfer writes the list and the exceptions") {
  temp_dir from, to;
  write_file(from / "d/skip", "skip");
  write_file(from / "d/keep", "keep");
  write_file(from / "other/skip", "x");
  write_file(from / ".fsutil-metadata", "forged");
  receive_options options;
  options.metadata_only_except = [](const file_stat& s) { return s.path() == "d/keep"; };
  auto o = transfer(from.path(), to.path(), {}, options);
  // The forged file shifts the sender's ids against ours, so only look at a sender without it.
  fs::remove(from / ".fsutil-metadata");
  fs::remove_all(to.path());
  fs::create_directories(to.path());
  o = transfer(from.path(), to.path(), {}, options);
  REQUIRE(o.received.ok());
  CHECK(names(to.path()) == std::set<std::string>{".fsutil-metadata", "d", "d/keep"});
  std::string list = read_file(to / ".fsutil-metadata");
  std::vector<std::string> paths;
  for (std::size_t at = 0; at + 4 <= list.size();) {
    std::uint32_t n = 0;
    for (int i = 0; i < 4; ++i)
      n |= static_cast<std::uint32_t>(static_cast<unsigned char>(list[at + i])) << (8 * i);
    file_stat s;
    REQUIRE(s.ParseFromString(list.substr(at + 4, n)));
    paths.push_back(s.path());
    at += 4 + n;
  }
  CHECK(paths == std::vector<std::string>{"d", "d/keep", "d/skip", "other", "other/skip"});
}

TEST_CASE("a sender that breaks the rules is refused and writes nothing outside") {
  temp_dir to;
  auto dir = go_mode::dir | 0755;
  auto refused = [&](std::vector<packet> script, const std::string& why) {
    script.push_back(end_of_stats());
    status s = receive_from(script, to.path());
    REQUIRE(!s.ok());
    INFO(s.error().message);
    CHECK(s.error().message.find(why) != std::string::npos);
  };
  refused({stat_packet("../evil", 0644)}, "escape");
  refused({stat_packet("..", dir)}, "escape");
  refused({stat_packet("/evil", 0644)}, "absolute");
  refused({stat_packet("a//b", 0644)}, "unclean");
  refused({stat_packet("a/./b", 0644)}, "unclean");
  refused({stat_packet("", 0644)}, "unclean");
  refused({stat_packet(std::string("a\0b", 3), 0644)}, "unclean");
  refused({stat_packet("b", 0644), stat_packet("a", 0644)}, "out of order");
  refused({stat_packet("a", 0644), stat_packet("a", 0644)}, "out of order");
  refused({stat_packet("missing/child", 0644)}, "out of order");
  refused({stat_packet("l", go_mode::symlink | 0777, "/etc"), stat_packet("l/x", 0644)}, "out of order");
  refused({stat_packet("h", 0644, "/etc/passwd")}, "unknown path");
  refused({stat_packet("h", 0644, "../x")}, "unknown path");
  refused({stat_packet("s", go_mode::symlink | 0777, "")}, "invalid link");
  refused({stat_packet("s", go_mode::irregular | 0644)}, "unsupported");
  refused({data_packet(7, "unasked")}, "invalid file request 7");
  packet err;
  err.set_type(packet::PACKET_ERR);
  err.set_data("out of coffee");
  refused({err}, "error from sender: out of coffee");
  packet fin;
  fin.set_type(packet::PACKET_FIN);
  refused({stat_packet("a", 0644), fin}, "too early");
  CHECK(!fs::exists(to.path().parent_path() / "evil"));
}

TEST_CASE("a symlink in the destination is never followed") {
  temp_dir to, outside;
  fs::create_directory_symlink(outside.path(), to / "d");
  status s = receive_from({stat_packet("d", go_mode::dir | 0755),
                           stat_packet("d/x", go_mode::symlink | 0777, "t"), end_of_stats()},
                          to.path());
  CHECK(fs::is_empty(outside.path()));
  CHECK(fs::is_directory(fs::symlink_status(to / "d")));
}

TEST_CASE("attributes that overlayfs reads are neither told nor taken over") {
  temp_dir from, to;
  for (const auto* name : {"told", "kept"}) fs::create_directory(from / name);
  for (const auto* attribute :
       {"trusted.overlay.opaque", "user.overlay.redirect", "user.fuseoverlayfs.opaque"})
    REQUIRE(::setxattr((from / "told").c_str(), attribute, "y", 1, 0) == 0);
  REQUIRE(::setxattr((from / "kept").c_str(), "trusted.other", "y", 1, 0) == 0);
  auto tree = open_directory(from.path().string());
  REQUIRE(tree.ok());
  std::map<std::string, std::size_t> told;
  REQUIRE(
      (*tree)->walk([&](file_stat&& s) { return told[s.path()] = s.xattrs().size(), status(); }, {}).ok());
  CHECK(told == std::map<std::string, std::size_t>{{"kept", 1}, {"told", 0}});

  // A client of its own making tells them all the same.
  auto attributes_of = [&](const std::string& name) {
    char list[1024];
    auto size = ::llistxattr((to / name).c_str(), list, sizeof list);
    return std::string(list, size > 0 ? static_cast<std::size_t>(size) : 0);
  };
  std::vector<packet> script{stat_packet("dir", go_mode::dir | 0755),
                             stat_packet("fifo", go_mode::named_pipe | 0644)};
  for (auto& p : script)
    for (const auto* attribute : {"trusted.overlay.opaque", "trusted.overlay.redirect", "user.overlay.opaque",
                                  "security.fuseoverlayfs.opaque", "trusted.other"})
      (*p.mutable_stat()->mutable_xattrs())[attribute] = "y";
  script.push_back(end_of_stats());
  (void)receive_from(script, to.path());
  CHECK(attributes_of("dir") == std::string("trusted.other\0", 14));
  CHECK(attributes_of("fifo") == std::string("trusted.other\0", 14));
}

TEST_CASE("files that are sent bring no privileges of programs") {
  temp_dir from, to;
  const std::string capability("\x01\0\0\x02\0\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0", 20);
  for (const auto* name : {"program", "d/other"}) {
    write_file(from / name, "x");
    REQUIRE(::setxattr((from / name).c_str(), "security.capability", capability.data(), 20, 0) == 0);
    REQUIRE(::setxattr((from / name).c_str(), "user.note", "xyz", 3, 0) == 0);
  }
  outcome o = transfer(from.path(), to.path());
  REQUIRE(o.sent.ok());
  REQUIRE(o.received.ok());
  char value[32];
  for (const auto* name : {"program", "d/other"}) {
    INFO(name);
    CHECK(::getxattr((to / name).c_str(), "security.capability", value, sizeof value) == -1);
    CHECK(::getxattr((to / name).c_str(), "user.note", value, sizeof value) == 3);
  }
}

TEST_CASE("a sender never opens what is no regular file, whatever the receiver asks for") {
  temp_dir from;
  REQUIRE(::mkfifo((from / "fifo").c_str(), 0644) == 0);
  REQUIRE(::mknod((from / "zero").c_str(), S_IFCHR | 0666, makedev(1, 5)) == 0);
  auto tree = open_directory(from.path().string());
  REQUIRE(tree.ok());
  for (const auto* name : {"fifo", "zero"}) {
    auto opened = (*tree)->open(name);
    REQUIRE_FALSE(opened.ok());
    CHECK(opened.error().message == std::string("open ") + name + ": not a regular file");
  }
}

TEST_CASE("a transfer that breaks off leaves an error and no file half written under its name as done") {
  temp_dir to;
  auto [a, b] = make_stream_pair();
  std::thread peer([end = a.get()] {
    end->write(stat_packet("f", 0644).SerializeAsString());
    end->write(end_of_stats().SerializeAsString());
    std::string bytes;
    end->read(bytes);
    end->write(data_packet(0, "half").SerializeAsString());
    end->writes_done();
  });
  status s = receive(*b, to.path().string());
  peer.join();
  REQUIRE(!s.ok());
  CHECK(s.error().code == errc::unavailable);
  struct stat st {};
  if (::lstat((to / "f").c_str(), &st) == 0)
    CHECK(st.st_mtim.tv_sec != 0);  // not the mtime told: asked for again
}

TEST_CASE(
    "where others' files are, a file is seen once it is complete, and what was there stays until then") {
  temp_dir to;
  write_file(to / "old", "as it was");
  constexpr int many = 400;  // more than are held open at once
  auto [a, b] = make_stream_pair();
  std::set<std::string> seen;
  std::thread peer([&, end = a.get()] {
    packet p = stat_packet("dir", 0755);
    p.mutable_stat()->set_mode(1u << 31 | 0755);
    end->write(p.SerializeAsString());
    std::vector<std::string> paths;
    for (int i = 0; i < many; ++i) paths.push_back("dir/f" + std::to_string(1000 + i));
    paths.push_back("old");
    for (const auto& path : paths) {
      p = stat_packet(path, 0644);
      p.mutable_stat()->set_size(8);
      end->write(p.SerializeAsString());
    }
    p.Clear();
    end->write(p.SerializeAsString());
    std::string bytes;
    auto data = [&](int id, const char* text) {
      p.Clear();
      p.set_type(packet::PACKET_DATA);
      p.set_id(static_cast<std::uint32_t>(id));
      p.set_data(text);
      end->write(p.SerializeAsString());
    };
    for (int asked = 0; asked <= many && end->read(bytes);) ++asked;
    for (int i = 1; i <= many + 1; ++i) data(i, "half");
    for (int i = 1; i <= many / 2; ++i) {  // half of them to their end
      data(i, "done");
      data(i, "");
    }
    // What comes next is handled after all of that: break off there.
    data(many + 1, "more");
    end->writes_done();
    while (end->read(bytes)) {
    }
  });
  receive_options options;
  options.merge = true;
  options.cancel = [end = b.get()] { end->break_off(); };
  auto s = receive(*b, to.path().string(), options);
  b.reset();
  peer.join();
  REQUIRE(!s.ok());
  CHECK(read_file(to / "old") == "as it was");
  std::size_t whole = 0;
  for (const auto& e : fs::recursive_directory_iterator(to.path())) {
    if (!e.is_regular_file() || e.path().filename() == "old") continue;
    ++whole;
    CHECK(read_file(e.path()) == "halfdone");
  }
  CHECK(whole == many / 2);
}

TEST_CASE("a receiver that asks for what was not told is refused") {
  temp_dir from;
  write_file(from / "f", "x");
  auto [a, b] = make_stream_pair();
  status sent;
  std::thread sender([&, end = a.get()] {
    auto tree = open_directory(from.path().string());
    sent = send(*end, **tree);
  });
  packet req;
  req.set_type(packet::PACKET_REQ);
  req.set_id(5);
  b->write(req.SerializeAsString());
  std::string bytes;
  packet p;
  bool told = false;
  while (!told && b->read(bytes)) {
    REQUIRE(p.ParseFromString(bytes));
    told = p.type() == packet::PACKET_ERR;
  }
  sender.join();
  CHECK(told);
  REQUIRE(!sent.ok());
  CHECK(sent.error().message == "invalid file id 5");
}

TEST_CASE("trees can be joined under names of their own") {
  temp_dir one, two, to;
  write_file(one / "a", "1");
  fs::create_hard_link(one / "a", one / "b");
  fs::create_symlink("/a", one / "abs");
  write_file(two / "a", "2");
  std::vector<sub_tree> subs(2);
  subs[0].directory.set_path("linux_arm64");
  subs[0].directory.set_mode(go_mode::dir | 0755);
  subs[0].tree = *open_directory(two.path().string());
  subs[1].directory.set_path("linux_amd64");
  subs[1].directory.set_mode(go_mode::dir | 0755);
  subs[1].tree = *open_directory(one.path().string());
  auto tree = join_trees(std::move(subs));
  REQUIRE(tree.ok());
  auto [a, b] = make_stream_pair();
  std::thread sender([&, end = a.get()] {
    CHECK(send(*end, **tree).ok());
    end->writes_done();
  });
  REQUIRE(receive(*b, to.path().string()).ok());
  sender.join();
  CHECK(read_file(to / "linux_amd64/b") == "1");
  CHECK(read_file(to / "linux_arm64/a") == "2");
  CHECK(fs::read_symlink(to / "linux_amd64/abs") == "/linux_amd64/a");

  std::vector<sub_tree> bad(1);
  bad[0].directory.set_path("a/b");
  bad[0].directory.set_mode(go_mode::dir);
  CHECK(!join_trees(std::move(bad)).ok());
}

TEST_CASE("ten thousand small files arrive", "[.throughput]") {
  temp_dir from, to;
  for (int i = 0; i < 100; ++i) {
    for (int j = 0; j < 100; ++j) {
      write_file(from / ("d" + std::to_string(i) + "/f" + std::to_string(j)),
                 std::string(4096, static_cast<char>('a' + j % 26)));
    }
  }
  auto begin = std::chrono::steady_clock::now();
  auto o = transfer(from.path(), to.path());
  auto first = std::chrono::steady_clock::now() - begin;
  REQUIRE(o.received.ok());
  CHECK(names(to.path()).size() == 10'100);
  begin = std::chrono::steady_clock::now();
  o = transfer(from.path(), to.path());
  auto second = std::chrono::steady_clock::now() - begin;
  REQUIRE(o.received.ok());
  using ms = std::chrono::milliseconds;
  WARN("10,000 × 4 KiB: " << std::chrono::duration_cast<ms>(first).count() << " ms, again "
                          << std::chrono::duration_cast<ms>(second).count() << " ms");
}
