#include "client/output_file.hpp"

#include <catch2/catch.hpp>

#include <csignal>

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include "tests/support/temp_dir.hpp"

using namespace kiln;
using namespace kiln::client;
namespace fs = std::filesystem;

namespace {

output_file must_open(const std::string& path) {
  auto opened = output_file::open(path);
  if (!opened.ok()) FAIL(opened.error().message);
  return *std::move(opened);
}

std::vector<std::string> names_in(const fs::path& directory) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(directory))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

TEST_CASE("An output is there when it is committed, and what was there before stays until then") {
  test::temp_dir dir;
  test::write_file(dir / "old", "before");
  fs::permissions(dir / "old", fs::perms(0640));
  {
    auto fresh = must_open((dir / "new").string());
    auto replaced = must_open((dir / "old").string());
    REQUIRE(fresh.write("fresh").ok());
    REQUIRE(replaced.write("after").ok());
    CHECK(test::read_file(dir / "old") == "before");
    CHECK(!fs::exists(dir / "new"));
    REQUIRE(fresh.commit().ok());
    REQUIRE(replaced.commit().ok());
  }
  CHECK(test::read_file(dir / "new") == "fresh");
  CHECK(test::read_file(dir / "old") == "after");
  CHECK((fs::status(dir / "old").permissions() & fs::perms::mask) == fs::perms(0640));
  CHECK(names_in(dir.path()) == std::vector<std::string>{"new", "old"});
}

TEST_CASE("An output that is not committed leaves nothing") {
  test::temp_dir dir;
  test::write_file(dir / "old", "before");
  for (auto name : {"new", "old"}) REQUIRE(must_open((dir / name).string()).write("half of").ok());
  CHECK(names_in(dir.path()) == std::vector<std::string>{"old"});
  CHECK(test::read_file(dir / "old") == "before");
}

TEST_CASE("A client killed while it writes an output leaves nothing, where files need no name") {
  test::temp_dir dir;
  test::write_file(dir / "old", "before");
  int told[2];
  REQUIRE(::pipe(told) == 0);
  auto child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    auto fresh = output_file::open((dir / "new").string());
    auto replaced = output_file::open((dir / "old").string());
    bool written =
        fresh.ok() && replaced.ok() && fresh->write("half of").ok() && replaced->write("half of").ok();
    if (!written || ::write(told[1], "x", 1) != 1) ::_exit(1);
    ::pause();
  }
  char byte = 0;
  REQUIRE(::read(told[0], &byte, 1) == 1);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ::close(told[0]);
  ::close(told[1]);
  CHECK(test::read_file(dir / "old") == "before");
  unique_fd nameless(::open(dir.path().c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600));
  if (nameless) CHECK(names_in(dir.path()) == std::vector<std::string>{"old"});
}

TEST_CASE("Links are followed; pipes and devices are written as they are") {
  test::temp_dir dir;
  test::write_file(dir / "target", "before");
  fs::create_symlink("target", dir / "link");
  auto linked = must_open((dir / "link").string());
  REQUIRE(linked.write("after").ok());
  REQUIRE(linked.commit().ok());
  CHECK(fs::is_symlink(dir / "link"));
  CHECK(test::read_file(dir / "target") == "after");

  REQUIRE(::mkfifo((dir / "pipe").c_str(), 0600) == 0);
  unique_fd reader(::open((dir / "pipe").c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  auto pipe = must_open((dir / "pipe").string());
  REQUIRE(pipe.write("through").ok());
  REQUIRE(pipe.commit().ok());
  char text[16] = {};
  CHECK(::read(reader.get(), text, sizeof text) == 7);
  CHECK(fs::is_fifo(dir / "pipe"));

  auto null = must_open("/dev/null");
  CHECK(null.write("x").ok());
  CHECK(null.commit().ok());
  CHECK(fs::is_character_file("/dev/null"));
  CHECK(output_file::open((dir / "no/such/directory").string()).error().code == errc::not_found);
}

TEST_CASE("A small file takes the place of a file only: devices, pipes and links are what they were") {
  test::temp_dir dir;
  test::write_file(dir / "old", "before");
  fs::create_symlink("old", dir / "link");
  REQUIRE(output_file::write_whole((dir / "link").string(), "after").ok());
  CHECK(fs::is_symlink(dir / "link"));
  CHECK(test::read_file(dir / "old") == "after");
  REQUIRE(::mknod((dir / "null").c_str(), S_IFCHR | 0666, makedev(1, 3)) == 0);
  REQUIRE(output_file::write_whole((dir / "null").string(), "gone").ok());
  CHECK(fs::is_character_file(dir / "null"));
  REQUIRE(::mknod((dir / "full").c_str(), S_IFCHR | 0666, makedev(1, 7)) == 0);
  CHECK_FALSE(output_file::write_whole((dir / "full").string(), "no room").ok());
  CHECK(fs::is_character_file(dir / "full"));
  REQUIRE(output_file::write_whole((dir / "new").string(), "text").ok());
  CHECK(names_in(dir.path()) == std::vector<std::string>{"full", "link", "new", "null", "old"});
}
