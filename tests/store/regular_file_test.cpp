// What builds leave under a name is looked at before it is opened.
#include <catch2/catch.hpp>

#include <poll.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "base/files.hpp"
#include "store/files/regular_file.hpp"
#include "tests/support/temp_dir.hpp"

using namespace kiln;
using namespace kiln::store;
namespace fs = std::filesystem;

namespace {

/// Counts opens of what is watched; opening with O_PATH is none.
class open_watch {
 public:
  explicit open_watch(const fs::path& path) : fd_(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK)) {
    REQUIRE(::inotify_add_watch(fd_.get(), path.c_str(), IN_OPEN) >= 0);
  }
  int opens() {
    alignas(inotify_event) char buffer[4096];
    int count = 0;
    for (ssize_t size; (size = ::read(fd_.get(), buffer, sizeof buffer)) > 0;)
      for (ssize_t at = 0; at < size; ++count)
        at +=
            static_cast<ssize_t>(sizeof(inotify_event) + reinterpret_cast<inotify_event*>(buffer + at)->len);
    return count;
  }

 private:
  unique_fd fd_;
};

struct odd_tree {
  odd_tree() {
    test::write_file(dir / "file", "text");
    fs::create_directory(dir / "directory");
    fs::create_symlink("file", dir / "link");
    fs::create_symlink("/null", dir / "to-null");
    REQUIRE(::mkfifo((dir / "fifo").c_str(), 0666) == 0);
    REQUIRE(::mknod((dir / "null").c_str(), S_IFCHR | 0666, ::makedev(1, 3)) == 0);
    REQUIRE(::mknod((dir / "zero").c_str(), S_IFCHR | 0666, ::makedev(1, 5)) == 0);
    unique_fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, (dir / "socket").c_str());
    REQUIRE(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    root = unique_fd(::open(dir.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  test::temp_dir dir;
  unique_fd root;
};

}  // namespace

TEST_CASE("A regular file is opened for reading, writing and cutting off") {
  odd_tree t;
  auto read = open_regular_at(t.root.get(), "file");
  REQUIRE(read.ok());
  char text[8] = {};
  CHECK(::read(read->get(), text, sizeof text) == 4);
  CHECK(std::string(text) == "text");
  auto written = open_regular_in_root(t.root.get(), "/directory/../link", O_WRONLY | O_TRUNC);
  REQUIRE(written.ok());
  CHECK(write_all(written->get(), "new").ok());
  CHECK(test::read_file(t.dir / "file") == "new");
}

TEST_CASE("Devices, FIFOs and sockets are refused without being opened, at once") {
  odd_tree t;
  for (auto name : {"null", "zero", "fifo", "socket"}) {
    INFO(name);
    open_watch watch(t.dir / name);
    for (int flags : {O_RDONLY, O_WRONLY | O_TRUNC, O_WRONLY | O_APPEND}) {
      auto at = open_regular_at(t.root.get(), name, flags);
      REQUIRE_FALSE(at.ok());
      CHECK(at.error().code == errc::failed_precondition);
      CHECK(at.error().message == std::string(name) + ": not a regular file");
      CHECK_FALSE(open_regular_in_root(t.root.get(), name, flags).ok());
    }
    CHECK(watch.opens() == 0);
  }
  open_watch watch(t.dir / "null");
  CHECK_FALSE(open_regular_in_root(t.root.get(), "to-null").ok());
  CHECK(watch.opens() == 0);
  unique_fd opened(::open((t.dir / "null").c_str(), O_RDONLY | O_CLOEXEC));
  CHECK(watch.opens() == 1);  // the watch does see opens
}

TEST_CASE("The last name is not followed, a directory is said to be one, and nothing is nothing") {
  odd_tree t;
  CHECK(open_regular_at(t.root.get(), "link").error().message == "link: not a regular file");
  CHECK(open_regular_at(t.root.get(), "directory").error().message == "directory: is a directory");
  CHECK(open_regular_at(t.root.get(), "missing").error().code == errc::not_found);
  CHECK(open_regular_in_root(t.root.get(), "missing").error().code == errc::not_found);
}
