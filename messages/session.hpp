// A connected client as jobs see it: named calls and byte-message streams to services the client offers.
// Plain interfaces; implemented over gRPC in gateway/, over actors for remote workers, by fakes in tests.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"

namespace kiln {

using call_metadata = std::vector<std::pair<std::string, std::string>>;

/// A bidirectional stream of serialized protobuf messages. One reader and one writer thread at a
/// time. Destroying it cancels whatever is still under way.
class message_stream {
 public:
  virtual ~message_stream() = default;
  /// Sends one message; blocks while the peer is slow. False once the stream is broken.
  virtual bool write(std::string_view message) = 0;
  /// Ends our side of the stream.
  virtual void writes_done() = 0;
  /// Receives one message; false at the end of the stream.
  virtual bool read(std::string& message) = 0;
  /// Waits for the peer's verdict. Call after read() has returned false, or to give up.
  virtual status finish() = 0;
};

/// One client session. Thread-safe; calls block the calling job's thread.
class session_caller {
 public:
  virtual ~session_caller() = default;
  virtual const std::string& id() const = 0;
  /// Identity of the client's directories between sessions; may be empty.
  virtual const std::string& shared_key() const = 0;
  /// Whether the client serves "/service/Method" (compared case-insensitively).
  virtual bool supports(std::string_view method) const = 0;
  /// Every method the client serves, for those who pass the session on.
  virtual std::vector<std::string> methods() const { return {}; }
  /// Unary call. Errors carry the client's code and message; unavailable once the session is gone.
  virtual result<std::string> call(std::string_view method, std::string_view request,
                                   const call_metadata& metadata, std::chrono::milliseconds timeout,
                                   std::stop_token stop) = 0;
  /// Opens a stream; `stop` cancels it.
  virtual result<std::unique_ptr<message_stream>> open(std::string_view method, const call_metadata& metadata,
                                                       std::stop_token stop) = 0;
};

/// Finds sessions by id. Thread-safe.
class session_directory {
 public:
  virtual ~session_directory() = default;
  /// Waits up to `wait` for the session to connect; not_found "no active session for <id>" then.
  /// A prefix up to the first colon of the id is ignored.
  virtual result<std::shared_ptr<session_caller>> find(std::string_view id, std::chrono::milliseconds wait,
                                                       std::stop_token stop) = 0;
};

/// The sessions that may serve one job: those of every build that waits for it, in order.
struct session_group {
  std::vector<std::string> ids;
};

template <class Inspector>
auto inspect(Inspector& f, session_group& x) {
  return f(x.ids);
}

/// Calls `use` with each session of the group until one succeeds; the last error otherwise,
/// failed_precondition "no active sessions" when the group is empty. Each is awaited up to 5 s.
status with_any_session(session_directory& directory, const session_group& group, std::stop_token stop,
                        const std::function<status(session_caller&)>& use);

}  // namespace kiln
