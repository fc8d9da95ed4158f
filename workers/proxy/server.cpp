#include "workers/proxy/server.hpp"

#include <cerrno>
#include <future>

#include <poll.h>
#include <sched.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "base/pause.hpp"
#include "base/thread_pool.hpp"
#include "configs/proxy.hpp"

namespace kiln::workers::proxy {

namespace {

void ring(int event_fd) {
  std::uint64_t one = 1;
  [[maybe_unused]] auto n = ::write(event_fd, &one, sizeof one);
}

void quiet(int event_fd) {
  std::uint64_t count = 0;
  [[maybe_unused]] auto n = ::read(event_fd, &count, sizeof count);
}

}  // namespace

server::server(server_options options, unique_fd stop, unique_fd freed)
    : o_(std::move(options)), stop_fd_(std::move(stop)), freed_fd_(std::move(freed)) {
  shared_ = {o_.authority, o_.may, o_.record, stop_.get_token(), stop_fd_.get()};
}

result<std::unique_ptr<server>> server::start(server_options options) {
  unique_fd stop(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)), freed(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop || !freed) return errno_error(errno, "eventfd");
  std::unique_ptr<server> out(new server(std::move(options), std::move(stop), std::move(freed)));
  std::promise<int> entered;
  auto there = entered.get_future();
  KILN_TRY(out->acceptor_, thread::start("proxy", [s = out.get(), &entered] {
             int failed = 0;
             if (s->o_.egress && ::setns(s->o_.egress->get(), CLONE_NEWNET) != 0) failed = errno;
             entered.set_value(failed);
             if (failed == 0) s->accept_all();
           }));
  if (int failed = there.get(); failed != 0)
    return errno_error(failed, "the proxy cannot enter the network of the step");
  return out;
}

server::~server() {
  stop_.request_stop();
  ring(stop_fd_.get());
  acceptor_.join();
}

bool server::wait_for(int fd) const {
  pollfd fds[] = {{fd, POLLIN, 0}, {stop_fd_.get(), POLLIN, 0}};
  while (::poll(fds, 2, -1) < 0 && errno == EINTR) {
  }
  return fds[1].revents == 0;
}

bool server::is_full() {
  std::lock_guard lock(mutex_);
  return connections_.size() >= o_.connections_max;
}

void server::accept_all() {
  // A thread that has just ended its last dialogue may not be free yet: the next one waits that moment.
  thread_pool talkers("proxy", o_.connections_max, o_.connections_max);
  while (wait_for(o_.listener.get())) {
    while (is_full()) {  // others wait in the listener's queue
      end_an_idle_one();
      if (!wait_for(freed_fd_.get())) return;
      quiet(freed_fd_.get());
    }
    unique_fd fd(::accept4(o_.listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) {
      if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED) continue;
      // No descriptors, no memory: it may get better once one connection less is there.
      spdlog::warn("proxy of a step: {}", errno_error(errno, "accept").message);
      end_an_idle_one();
      if (!pause_for(configs::proxy::accept_pause, stop_.get_token())) return;
      continue;
    }
    place at;
    {
      std::lock_guard lock(mutex_);
      at = connections_.emplace(connections_.end(), std::move(fd), stop_fd_.get());
    }
    if (talkers.submit([this, at] { talk(at); })) continue;
    std::lock_guard lock(mutex_);
    connections_.erase(at);
  }
}

void server::talk(place at) {
  dialogue(at->client, shared_, [this, at](bool idle) {
    {
      std::lock_guard lock(mutex_);
      if (idle && !at->idle) at->since = std::chrono::steady_clock::now();
      at->idle = idle;
    }
    if (idle) ring(freed_fd_.get());  // it may be the one that has to make room
  }).run();
  {
    std::lock_guard lock(mutex_);
    connections_.erase(at);
  }
  ring(freed_fd_.get());
}

void server::end_an_idle_one() {
  std::lock_guard lock(mutex_);
  connection* oldest = nullptr;
  for (auto& c : connections_)
    if (c.idle && (oldest == nullptr || c.since < oldest->since)) oldest = &c;
  if (oldest != nullptr) oldest->client.hang_up();
}

}  // namespace kiln::workers::proxy
