// One connection of a step to its proxy, plain or with TLS. Every wait ends when the proxy is to stop. One
// thread; hang_up() from any.
#pragma once

#include <chrono>
#include <optional>
#include <span>
#include <string_view>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "workers/proxy/certificates.hpp"

namespace kiln::workers::proxy {

class client_stream {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  /// `fd` does not block; `stop_fd` becomes readable when everything is to end.
  client_stream(unique_fd fd, int stop_fd) : fd_(std::move(fd)), stop_fd_(stop_fd) {}

  /// Becomes a TLS server. unavailable says what the client did not like; also as below.
  status start_tls(context_ptr context, time_point deadline);

  // Errors: cancelled when stopped; unavailable when the connection broke; deadline_exceeded.

  /// 0: the client says no more.
  result<std::size_t> read(std::span<char> room, time_point deadline);
  /// Nothing when that would have to wait.
  result<std::optional<std::size_t>> try_read(std::span<char> room);
  /// Waits for the client to take it, for as long as it takes.
  status write(std::string_view bytes);

  int fd() const { return fd_.get(); }
  /// Says that nothing follows; without it the client sees a connection that broke off.
  void finish();
  /// From any thread: the next wait finds the connection broken.
  void hang_up();

 private:
  enum class wants { nothing, input, output };
  status wait(wants what, std::optional<time_point> deadline);
  /// Of the last call; an error when it is no question of waiting.
  result<wants> wants_of(int returned);

  unique_fd fd_;
  int stop_fd_;
  context_ptr context_;
  ssl_ptr ssl_;  // null: plain
};

}  // namespace kiln::workers::proxy
