#include "gateway/session/tunnel_pump.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace kiln::gateway {

tunnel_pump::tunnel_pump()
    : epoll_fd_(::epoll_create1(EPOLL_CLOEXEC)), wake_fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = wake_fd_;
  ::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, wake_fd_, &event);
  thread_ = thread::must_start("tunnel-pump", [this] { run(); });
}

tunnel_pump::~tunnel_pump() {
  std::uint64_t one = 1;
  [[maybe_unused]] auto n = ::write(wake_fd_, &one, sizeof one);
  thread_.join();
  ::close(wake_fd_);
  ::close(epoll_fd_);
}

bool tunnel_pump::add(int fd, std::shared_ptr<readiness_listener> listener) {
  std::lock_guard lock(mutex_);
  epoll_event event{};
  event.events = EPOLLONESHOT;
  event.data.fd = fd;
  if (::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) != 0) return false;
  listeners_[fd] = std::move(listener);
  return true;
}

void tunnel_pump::arm(int fd, std::uint32_t epoll_events) {
  epoll_event event{};
  event.events = epoll_events | EPOLLONESHOT;
  event.data.fd = fd;
  ::epoll_ctl(epoll_fd_, EPOLL_CTL_MOD, fd, &event);
}

void tunnel_pump::remove(int fd) {
  std::shared_ptr<readiness_listener> gone;  // released outside the lock
  std::lock_guard lock(mutex_);
  auto it = listeners_.find(fd);
  if (it == listeners_.end()) return;
  gone = std::move(it->second);
  listeners_.erase(it);
  ::epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, nullptr);
}

void tunnel_pump::run() {
  std::array<epoll_event, 64> events;
  for (;;) {
    int n = ::epoll_wait(epoll_fd_, events.data(), events.size(), -1);
    if (n < 0 && errno != EINTR) return;
    for (int i = 0; i < n; ++i) {
      if (events[i].data.fd == wake_fd_) return;
      std::shared_ptr<readiness_listener> listener;
      {
        std::lock_guard lock(mutex_);
        if (auto it = listeners_.find(events[i].data.fd); it != listeners_.end()) listener = it->second;
      }
      if (listener) listener->on_ready(events[i].events);
    }
  }
}

}  // namespace kiln::gateway
