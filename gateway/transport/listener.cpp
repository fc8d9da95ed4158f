#include "gateway/transport/listener.hpp"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <spdlog/spdlog.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "configs/gateway.hpp"
#include "store/files/private_directory.hpp"

namespace kiln::gateway {

namespace cfg = configs::gateway;

namespace {

/// Closes on the way out unless released.
struct scoped_fd {
  int fd;
  ~scoped_fd() {
    if (fd >= 0) ::close(fd);
  }
  int release() { return std::exchange(fd, -1); }
};

std::string numeric_address(const sockaddr* address, socklen_t length) {
  std::array<char, NI_MAXHOST> host;
  std::array<char, NI_MAXSERV> port;
  if (::getnameinfo(address, length, host.data(), host.size(), port.data(), port.size(),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return "?";
  bool v6 = address->sa_family == AF_INET6;
  return (v6 ? "[" : "") + std::string(host.data()) + (v6 ? "]:" : ":") + port.data();
}

}  // namespace

result<listen_address> parse_listen_address(std::string_view text) {
  auto at = text.find("://");
  if (at == std::string_view::npos)
    return make_error(errc::invalid_argument, "address \"" + std::string(text) +
                                                  "\" does not contain proto, you meant \"unix://" +
                                                  std::string(text) + "\" ?");
  auto scheme = text.substr(0, at);
  listen_address out;
  out.target = std::string(text.substr(at + 3));
  if (scheme == "unix") {
    out.kind = listen_address::kind::unix_socket;
  } else if (scheme == "tcp") {
    out.kind = listen_address::kind::tcp;
  } else if (scheme == "fd") {
    out.kind = listen_address::kind::inherited;
    if (!out.target.empty())
      return make_error(errc::invalid_argument,
                        "listening server on fd://" + out.target + ": not supported yet");
    return out;
  } else {
    return make_error(errc::invalid_argument, "addr " + std::string(text) + ": invalid protocol \"" +
                                                  std::string(scheme) + "\", use unix://, tcp:// or fd://");
  }
  if (out.target.empty())
    return make_error(errc::invalid_argument, "addr " + std::string(text) + ": nothing after the protocol");
  return out;
}

listening_socket::listening_socket(listening_socket&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      tcp_(other.tcp_),
      address_(std::move(other.address_)),
      unlink_path_(std::exchange(other.unlink_path_, {})) {}

listening_socket::~listening_socket() {
  if (fd_ < 0) return;
  if (!unlink_path_.empty()) ::unlink(unlink_path_.c_str());
  ::close(fd_);
}

result<listening_socket> listening_socket::share() const {
  int fd = ::fcntl(fd_, F_DUPFD_CLOEXEC, 0);
  if (fd < 0) return errno_error(errno, "listen on " + address_);
  return listening_socket(fd, tcp_, address_, {});
}

result<std::vector<listening_socket>> listening_socket::open(const listen_address& address,
                                                             const socket_owner& owner) {
  if (address.kind == listen_address::kind::tcp) return open_tcp(address.target);
  auto one =
      address.kind == listen_address::kind::unix_socket ? open_unix(address.target, owner) : open_inherited();
  if (!one.ok()) return std::move(one).error();
  std::vector<listening_socket> out;
  out.push_back(*std::move(one));
  return out;
}

result<listening_socket> listening_socket::open_unix(const std::string& path, const socket_owner& owner) {
  auto what = "listen on unix://" + path;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return make_error(errc::invalid_argument, what + ": the path is longer than " +
                                                  std::to_string(sizeof address.sun_path - 1) + " bytes");
  std::memcpy(address.sun_path, path.data(), path.size());
  auto* generic = reinterpret_cast<const sockaddr*>(&address);

  // Clients trust what is at this path: it must stay ours. From here on the path is safe to use.
  auto directory = std::filesystem::path(path).parent_path();
  auto guarded = store::guarded_directory(directory.empty() ? "." : directory, {owner.uid, owner.gid});
  if (!guarded.ok()) return std::move(guarded).error().with_context(what);
  struct stat st {};
  if (::lstat(path.c_str(), &st) == 0) {
    if (!S_ISSOCK(st.st_mode))
      return make_error(errc::already_exists, what + ": the path exists and is not a socket");
    scoped_fd probe{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (::connect(probe.fd, generic, sizeof address) == 0 || errno == EAGAIN)
      return make_error(errc::already_exists, what + ": another daemon is listening there");
    if (::unlink(path.c_str()) != 0 && errno != ENOENT)
      return errno_error(errno, what + ": remove the stale socket");
  }
  scoped_fd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (fd.fd < 0) return errno_error(errno, what);
  // Nobody may connect between bind and chmod: a socket of mode 0 refuses everyone but root.
  ::fchmod(fd.fd, 0);
  if (::bind(fd.fd, generic, sizeof address) != 0) return errno_error(errno, what);
  auto fail = [&](const char* step) {
    auto e = errno_error(errno, what + ": " + step);
    ::unlink(path.c_str());
    return e;
  };
  if ((owner.uid || owner.gid) && ::chown(path.c_str(), owner.uid.value_or(static_cast<uid_t>(-1)),
                                          owner.gid.value_or(static_cast<gid_t>(-1))) != 0)
    return fail("set the owner");
  if (::chmod(path.c_str(), owner.mode) != 0) return fail("set the mode");
  if (::listen(fd.fd, cfg::listen_backlog) != 0) return fail("listen");
  return listening_socket(fd.release(), false, "unix://" + path, path);
}

result<std::vector<listening_socket>> listening_socket::open_tcp(const std::string& host_port) {
  auto what = "listen on tcp://" + host_port;
  auto colon = host_port.rfind(':');
  if (colon == std::string::npos || colon + 1 == host_port.size())
    return make_error(errc::invalid_argument, what + ": missing port in address");
  auto host = host_port.substr(0, colon);
  auto port = host_port.substr(colon + 1);
  if (host.size() >= 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);

  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_ADDRCONFIG;
  addrinfo* found = nullptr;
  if (int err = ::getaddrinfo(host.empty() ? nullptr : host.c_str(), port.c_str(), &hints, &found); err != 0)
    return make_error(errc::invalid_argument, what + ": " + ::gai_strerror(err));
  std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owned(found, &::freeaddrinfo);
  std::vector<listening_socket> out;
  for (auto* info = found; info; info = info->ai_next) {
    scoped_fd fd{::socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
    if (fd.fd < 0) continue;
    int on = 1;
    ::setsockopt(fd.fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (info->ai_family == AF_INET6) ::setsockopt(fd.fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (::bind(fd.fd, info->ai_addr, info->ai_addrlen) != 0 || ::listen(fd.fd, cfg::listen_backlog) != 0)
      return errno_error(errno, what);
    sockaddr_storage bound{};
    socklen_t length = sizeof bound;
    ::getsockname(fd.fd, reinterpret_cast<sockaddr*>(&bound), &length);
    auto text = numeric_address(reinterpret_cast<sockaddr*>(&bound), length);
    out.push_back(listening_socket(fd.release(), true, "tcp://" + text, {}));
    if (port == "0") break;  // a second socket would get another port
  }
  if (out.empty()) return make_error(errc::unavailable, what + ": no usable address");
  return out;
}

result<listening_socket> listening_socket::open_inherited() {
  int n = ::sd_listen_fds(0);
  if (n < 0) return errno_error(-n, "listen on fd://");
  if (n == 0)
    return make_error(errc::failed_precondition,
                      "listen on fd://: no sockets found via socket activation: "
                      "make sure the service was started by systemd");
  int fd = SD_LISTEN_FDS_START;
  if (::sd_is_socket(fd, AF_UNSPEC, SOCK_STREAM, 1) <= 0)
    return make_error(errc::failed_precondition,
                      "listen on fd://: the inherited descriptor is no listening socket");
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  bool tcp = ::sd_is_socket(fd, AF_UNIX, SOCK_STREAM, 1) <= 0;
  return listening_socket(fd, tcp, "fd://", {});
}

acceptor::acceptor(std::vector<listening_socket> sockets, std::function<void(int, bool)> accepted)
    : sockets_(std::move(sockets)), accepted_(std::move(accepted)) {
  epoll_fd_ = ::epoll_create1(EPOLL_CLOEXEC);
  wake_fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = ~0ull;
  ::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, wake_fd_, &event);
  for (std::size_t i = 0; i < sockets_.size(); ++i) {
    event.data.u64 = i;
    ::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, sockets_[i].fd(), &event);
    addresses_.push_back(sockets_[i].address());
  }
  thread_ = thread::must_start("acceptor", [this] { run(); });
}

acceptor::~acceptor() { stop(); }

void acceptor::stop() {
  if (!thread_.joinable()) return;
  std::uint64_t one = 1;
  [[maybe_unused]] auto n = ::write(wake_fd_, &one, sizeof one);
  thread_.join();
  sockets_.clear();
  ::close(wake_fd_);
  ::close(epoll_fd_);
}

void acceptor::run() {
  for (;;) {
    epoll_event event;
    int n = ::epoll_wait(epoll_fd_, &event, 1, -1);
    if (n < 0 && errno != EINTR) return;
    if (n <= 0) continue;
    if (event.data.u64 == ~0ull) return;
    auto& socket = sockets_[event.data.u64];
    int fd = ::accept4(socket.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        spdlog::error("accept on {}: {}", socket.address(), std::strerror(errno));
        // The connection stays in the backlog; give the daemon time to close something.
        ::usleep(50'000);
      }
      continue;
    }
    if (socket.tcp()) {
      int on = 1;
      int idle = static_cast<int>(cfg::tcp_keepalive_idle.count());
      int interval = static_cast<int>(cfg::tcp_keepalive_interval.count());
      ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
      ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
      ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
    }
    accepted_(fd, socket.tcp());
  }
}

}  // namespace kiln::gateway
