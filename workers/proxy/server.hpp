// The proxy of one step: accepts its connections, as many at a time as may be, and leads a dialogue on each.
// Everything it has started is over once it is gone. Thread-safe.
#pragma once

#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>

#include "base/result.hpp"
#include "base/thread.hpp"
#include "base/unique_fd.hpp"
#include "configs/proxy.hpp"
#include "workers/proxy/dialogue.hpp"

namespace kiln::workers::proxy {

struct server_options {
  unique_fd listener;               // listens already
  std::optional<unique_fd> egress;  // network namespace that requests leave from; none: the caller's
  std::shared_ptr<certificates> authority;
  judge may;
  recorder* record = nullptr;  // outlives the server
  std::size_t connections_max = configs::proxy::connections_max;
};

class server {
 public:
  static result<std::unique_ptr<server>> start(server_options options);
  /// Breaks off what is under way and waits for it.
  ~server();
  server(const server&) = delete;
  server& operator=(const server&) = delete;

 private:
  struct connection {
    explicit connection(unique_fd fd, int stop_fd) : client(std::move(fd), stop_fd) {}
    client_stream client;
    bool idle = false;
    std::chrono::steady_clock::time_point since;
  };
  using place = std::list<connection>::iterator;

  server(server_options options, unique_fd stop, unique_fd freed);
  /// Of the thread that accepts; the threads it starts are in the same network namespace.
  void accept_all();
  bool is_full();
  void talk(place at);
  bool wait_for(int fd) const;
  /// The one that has been idle longest makes room for another.
  void end_an_idle_one();

  server_options o_;
  unique_fd stop_fd_, freed_fd_;
  std::stop_source stop_;
  services shared_;
  std::mutex mutex_;  // guards what follows
  std::list<connection> connections_;
  thread acceptor_;  // the last: it uses all of it
};

}  // namespace kiln::workers::proxy
