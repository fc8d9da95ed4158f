// ReadFile, ReadDir and StatFile on trees that hold anything.
#include "workers/ref_files.hpp"

#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "filesync/file_stat.hpp"
#include "tests/support/temp_dir.hpp"

using namespace kiln;
using namespace kiln::test;
using namespace kiln::workers;
namespace fs = std::filesystem;

namespace {

result<gw::StatFileResponse> stat_of(const temp_dir& root, const std::string& path) {
  gw::StatFileRequest q;
  q.set_path(path);
  return stat_file(root.path(), q);
}

result<gw::ReadFileResponse> text_of(const temp_dir& root, const std::string& path) {
  gw::ReadFileRequest q;
  q.set_filepath(path);
  return workers::read_file(root.path(), q, 1 << 20);
}

}  // namespace

TEST_CASE("files are told of through links inside the root, with their attributes") {
  temp_dir root;
  write_file(root / "dir/file", "12345");
  REQUIRE(::setxattr((root / "dir/file").c_str(), "user.note", "abc", 3, 0) == 0);
  fs::create_symlink("/dir", root / "way");
  fs::create_symlink("../../../../etc/hostname", root / "out");
  for (const auto* path : {"dir/file", "/dir/file", "way/file", "/way/../way/file"}) {
    INFO(path);
    auto told = stat_of(root, path);
    REQUIRE(told.ok());
    CHECK(told->stat().path() == "file");
    CHECK(told->stat().size() == 5);
    CHECK(told->stat().xattrs().at("user.note") == "abc");
    auto text = text_of(root, path);
    REQUIRE(text.ok());
    CHECK(text->data() == "12345");
  }
  CHECK(filesync::is_dir(stat_of(root, "/")->stat()));
  CHECK(stat_of(root, "way")->stat().path() == "way");
  CHECK(stat_of(root, "out").error().code == errc::not_found);
  CHECK(text_of(root, "out").error().code == errc::not_found);
}

TEST_CASE("devices, FIFOs and directories are told of and not read, at once") {
  temp_dir root;
  REQUIRE(::mkfifo((root / "fifo").c_str(), 0644) == 0);
  REQUIRE(::mknod((root / "zero").c_str(), S_IFCHR | 0666, ::makedev(1, 5)) == 0);
  fs::create_symlink("zero", root / "link");
  auto zero = stat_of(root, "link");
  REQUIRE(zero.ok());
  CHECK(zero->stat().devmajor() == 1);
  CHECK(zero->stat().devminor() == 5);
  CHECK(stat_of(root, "fifo").ok());
  for (const auto* name : {"fifo", "zero", "link"}) {
    auto text = text_of(root, name);
    REQUIRE_FALSE(text.ok());
    CHECK(text.error().message == std::string("read ") + name + ": not a regular file");
    CHECK(text.error().code == errc::failed_precondition);
  }
  CHECK(text_of(root, "/").error().message == "read /: is a directory");
}

// Regression: the parent of what had been found was opened again by its path, which a container that runs can
// make lead elsewhere meanwhile.
TEST_CASE("what a running container swaps is one thing or the other, never something outside") {
  temp_dir root, outside;
  write_file(root / "a/name", "inside");
  write_file(outside / "name", "outside");
  REQUIRE(::setxattr((outside / "name").c_str(), "user.outside", "1", 1, 0) == 0);
  fs::create_directory_symlink(outside.path(), root / "b");
  std::atomic<bool> done{false};
  std::thread swapper([&] {
    while (!done)
      ::renameat2(AT_FDCWD, (root / "a").c_str(), AT_FDCWD, (root / "b").c_str(), RENAME_EXCHANGE);
  });
  int outside_seen = 0;
  auto end = std::chrono::steady_clock::now() + std::chrono::seconds(1);
  while (std::chrono::steady_clock::now() < end) {
    auto told = stat_of(root, "a/name");
    if (told.ok() && told->stat().xattrs().contains("user.outside")) ++outside_seen;
    auto text = text_of(root, "a/name");
    if (text.ok() && text->data() != "inside") ++outside_seen;
  }
  done = true;
  swapper.join();
  CHECK(outside_seen == 0);
}
