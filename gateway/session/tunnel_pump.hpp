// One thread that waits for the tunnels' sockets to become ready. Knows nothing of gRPC.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "base/thread.hpp"

namespace kiln::gateway {

/// Somebody waiting for a file descriptor. Called on the pump's thread; must not block.
class readiness_listener {
 public:
  virtual ~readiness_listener() = default;
  virtual void on_ready(std::uint32_t epoll_events) = 0;
};

/// Readiness is reported once per arm(). A listener is kept alive while it is registered.
class tunnel_pump {
 public:
  tunnel_pump();
  ~tunnel_pump();
  tunnel_pump(const tunnel_pump&) = delete;
  tunnel_pump& operator=(const tunnel_pump&) = delete;

  bool add(int fd, std::shared_ptr<readiness_listener> listener);
  /// Replaces what is waited for; 0 waits for nothing but errors.
  void arm(int fd, std::uint32_t epoll_events);
  /// Afterwards the fd may be closed; a report already under way may still arrive.
  void remove(int fd);

 private:
  void run();

  int epoll_fd_;
  int wake_fd_;
  std::mutex mutex_;
  std::map<int, std::shared_ptr<readiness_listener>> listeners_;
  thread thread_;
};

}  // namespace kiln::gateway
