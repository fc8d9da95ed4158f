#include <catch2/catch.hpp>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>

#include "gateway/transport/listener.hpp"

using namespace kiln;
using namespace kiln::gateway;
namespace fs = std::filesystem;

namespace {

struct scratch {
  scratch() {
    std::string pattern = (fs::temp_directory_path() / "kiln-listen-XXXXXX").string();
    path = ::mkdtemp(pattern.data());
  }
  ~scratch() { fs::remove_all(path); }
  fs::path path;
  listen_address address(const std::string& name = "a.sock") const {
    return {listen_address::kind::unix_socket, (path / name).string()};
  }
};

}  // namespace

TEST_CASE("a unix socket has the mode and group asked for, in a directory made for it") {
  scratch dir;
  socket_owner owner;
  owner.gid = 12;
  auto opened = listening_socket::open(dir.address("sub/dir/a.sock"), owner);
  REQUIRE(opened.ok());
  struct stat st {};
  REQUIRE(::stat((dir.path / "sub/dir/a.sock").c_str(), &st) == 0);
  CHECK((st.st_mode & 07777) == 0660);
  CHECK(st.st_gid == 12);
  CHECK(opened->front().address() == "unix://" + (dir.path / "sub/dir/a.sock").string());
}

TEST_CASE("a unix socket is not made where another user could put one of theirs") {
  scratch dir;
  auto before = ::umask(0);
  auto made = listening_socket::open(dir.address("run/a.sock"), {});
  ::umask(before);
  REQUIRE(made.ok());
  struct stat st {};
  REQUIRE(::stat((dir.path / "run").c_str(), &st) == 0);
  CHECK((st.st_mode & 07777) == 0755);

  auto refused = [&](const std::string& name, mode_t mode, uid_t user, const std::string& why) {
    REQUIRE(::mkdir((dir.path / name).c_str(), 0700) == 0);
    REQUIRE(::chmod((dir.path / name).c_str(), mode) == 0);
    REQUIRE(::chown((dir.path / name).c_str(), user, user) == 0);
    auto opened = listening_socket::open(dir.address(name + "/a.sock"), {});
    REQUIRE_FALSE(opened.ok());
    INFO(opened.error().message);
    CHECK(opened.error().message.find((dir.path / name).string() + " (" + why + ")") != std::string::npos);
    CHECK_FALSE(fs::exists(dir.path / name / "a.sock"));
  };
  refused("open", 0777, 0, "owner 0:0, mode 0777");
  refused("theirs", 0755, 65534, "owner 65534:65534, mode 0755");
  socket_owner owner;
  owner.uid = 65534;
  CHECK(listening_socket::open(dir.address("theirs/a.sock"), owner).ok());
}

TEST_CASE("a stale unix socket is taken over, a live one and a plain file are not") {
  scratch dir;
  {
    int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, (dir.path / "a.sock").c_str());
    REQUIRE(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    ::close(fd);  // the name stays, nobody listens
  }
  auto taken = listening_socket::open(dir.address(), {});
  REQUIRE(taken.ok());
  auto second = listening_socket::open(dir.address(), {});
  REQUIRE_FALSE(second.ok());
  CHECK(second.error().code == errc::already_exists);
  CHECK(second.error().message.find("another daemon is listening there") != std::string::npos);
  std::ofstream(dir.path / "file") << "precious";
  auto file = listening_socket::open(dir.address("file"), {});
  REQUIRE_FALSE(file.ok());
  CHECK(fs::file_size(dir.path / "file") == 8);
}

TEST_CASE("a closed unix socket leaves no name behind") {
  scratch dir;
  { REQUIRE(listening_socket::open(dir.address(), {}).ok()); }
  CHECK_FALSE(fs::exists(dir.path / "a.sock"));
}

TEST_CASE("a unix path that is too long is refused with its limit") {
  scratch dir;
  auto opened = listening_socket::open(dir.address(std::string(120, 'x')), {});
  REQUIRE_FALSE(opened.ok());
  CHECK(opened.error().message.find("longer than 107 bytes") != std::string::npos);
}

TEST_CASE("tcp port 0 is replaced by the real port, and a port in use is an error") {
  auto opened = listening_socket::open({listen_address::kind::tcp, "127.0.0.1:0"}, {});
  REQUIRE(opened.ok());
  auto address = opened->front().address();
  CHECK(address.starts_with("tcp://127.0.0.1:"));
  CHECK(address != "tcp://127.0.0.1:0");
  auto second = listening_socket::open({listen_address::kind::tcp, address.substr(6)}, {});
  REQUIRE_FALSE(second.ok());
  CHECK(second.error().message.find(address) != std::string::npos);
  CHECK_FALSE(listening_socket::open({listen_address::kind::tcp, "127.0.0.1"}, {}).ok());
}

TEST_CASE("fd:// without inherited sockets says so") {
  ::unsetenv("LISTEN_FDS");
  auto opened = listening_socket::open({listen_address::kind::inherited, ""}, {});
  REQUIRE_FALSE(opened.ok());
  CHECK(opened.error().message.find("no sockets found via socket activation") != std::string::npos);
}
