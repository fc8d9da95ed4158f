#include "workers/proxy/step_network.hpp"

#include <cerrno>

#include <arpa/inet.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include "workers/executor/loopback.hpp"

namespace kiln::workers::proxy {

namespace {

struct begun {
  unique_fd listener, network;
  int port = 0;
};

/// On the thread's own loopback device; the kernel chooses the port.
status listen_here(begun& out) {
  out.listener.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!out.listener) return errno_error(errno, "socket");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (::bind(out.listener.get(), generic, size) != 0 || ::listen(out.listener.get(), SOMAXCONN) != 0 ||
      ::getsockname(out.listener.get(), generic, &size) != 0)
    return errno_error(errno, "listen");
  out.port = ntohs(address.sin_port);
  return {};
}

/// A thread of its own enters the new namespace, and never leaves it.
result<begun> begin() {
  begun out;
  status outcome;
  auto enter = [&]() -> status {
    if (::unshare(CLONE_NEWNET) != 0) return errno_error(errno, "unshare network namespace");
    KILN_CHECK(bring_loopback_up());
    KILN_CHECK(listen_here(out));
    out.network.reset(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    if (!out.network) return errno_error(errno, "open network namespace");
    return {};
  };
  KILN_TRY(auto elsewhere, thread::start("proxy-netns", [&] { outcome = enter(); }));
  elsewhere.join();
  if (!outcome.ok()) return std::move(outcome).error().with_context("the proxy's network");
  return out;
}

}  // namespace

result<std::unique_ptr<step_network>> step_network::open(std::shared_ptr<certificates> authority,
                                                         std::unique_ptr<network_namespace> egress,
                                                         const step_rules& rules) {
  auto out = std::make_unique<step_network>();
  out->authority_ = std::move(authority);
  out->egress_ = std::move(egress);
  KILN_TRY(auto made, begin());
  out->namespace_ = std::move(made.network);
  out->port_ = made.port;
  server_options options;
  options.listener = std::move(made.listener);
  options.authority = out->authority_;
  options.may = rules.may;
  options.record = rules.record != nullptr ? rules.record : &out->unwanted_;
  if (!out->egress_->host()) {
    auto path = out->egress_->path();
    if (!path) return make_error(errc::invalid_argument, "no network that a proxy could reach anything by");
    options.egress.emplace(::open(path->c_str(), O_RDONLY | O_CLOEXEC));
    if (!*options.egress) return errno_error(errno, "open " + *path);
  }
  KILN_TRY(out->server_, server::start(std::move(options)));
  return out;
}

std::string step_network::path() const {
  return "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(namespace_.get());
}

std::vector<std::string> step_network::environment() const {
  auto url = "http://127.0.0.1:" + std::to_string(port_);
  std::vector<std::string> out;
  for (const char* name : {"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"})
    out.push_back(std::string(name) + "=" + url);
  for (const char* name : {"NO_PROXY", "no_proxy"})
    out.push_back(std::string(name) + "=127.0.0.1,localhost,::1");
  return out;
}

}  // namespace kiln::workers::proxy
