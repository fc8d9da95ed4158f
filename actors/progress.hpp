// Making status messages: what steps tell of themselves, in BuildKit's form.
#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

#include <google/protobuf/timestamp.pb.h>

#include "messages/actor_interfaces.hpp"
#include "messages/job.hpp"

namespace kiln::actors {

inline std::int64_t unix_now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

inline void set_time(google::protobuf::Timestamp& out, std::int64_t unix_ns) {
  out.set_seconds(unix_ns / 1'000'000'000);
  out.set_nanos(static_cast<std::int32_t>(unix_ns % 1'000'000'000));
}

/// Sends what a job reports to an actor as status messages of one vertex. Thread-safe.
class progress_sender : public progress_sink {
 public:
  progress_sender(progress_actor to, std::string vertex) : to_(std::move(to)), vertex_(std::move(vertex)) {}

  void log(int stream, std::string_view bytes) override;
  void progress(std::string_view id, std::int64_t current, std::int64_t total, bool done) override;
  void warn(std::string_view text) override;

 private:
  struct shown {
    std::int64_t started_ns = 0;
    std::int64_t sent_ns = 0;
  };
  progress_actor to_;
  std::string vertex_;
  std::mutex mutex_;
  std::map<std::string, shown, std::less<>> statuses_;
};

}  // namespace kiln::actors
