// A daemon of our own, and never somebody else's in its place.
#include "client/connect/embedded_daemon.hpp"

#include <catch2/catch.hpp>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "base/unique_fd.hpp"
#include "tests/support/temp_dir.hpp"

using namespace kiln;
namespace fs = std::filesystem;

TEST_CASE("a state directory that another user made, or could swap, is not used, whoever listens in it") {
  test::temp_dir dir;
  auto make = [&](const std::string& name, mode_t mode, uid_t user) {
    REQUIRE(::mkdir((dir / name).c_str(), 0700) == 0);
    REQUIRE(::chmod((dir / name).c_str(), mode) == 0);
    REQUIRE(::chown((dir / name).c_str(), user, user) == 0);
  };
  make("share", 0755, 65534);
  make("share/kiln", 0755, 0);
  make("theirs", 0755, 65534);
  make("open", 0777, 0);
  for (std::string root : {"share/kiln", "theirs", "open"}) {
    auto path = dir / root;
    unique_fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, client::embedded_socket(path).c_str());
    REQUIRE(::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    REQUIRE(::listen(listener.get(), 1) == 0);
    auto started = client::embedded_daemon::start(path, {});
    REQUIRE_FALSE(started.ok());
    INFO(started.error().message);
    CHECK(started.error().code == errc::permission_denied);
    CHECK(started.error().message.find("state directory: ") == 0);
    CHECK(started.error().message.find("owner ") != std::string::npos);
    CHECK(::accept(listener.get(), nullptr, nullptr) == -1);  // nobody came
  }
}
