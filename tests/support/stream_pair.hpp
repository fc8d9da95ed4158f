// Two ends of an in-memory message stream with bounded queues, as a session's stream behaves.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "messages/session.hpp"

namespace kiln::test {

struct stream_pipe {
  std::mutex mutex;
  std::condition_variable readable[2];
  std::condition_variable writable[2];
  void wake_all() {
    for (int i = 0; i < 2; ++i) readable[i].notify_all(), writable[i].notify_all();
  }
  std::deque<std::string> queues[2];
  bool closed[2] = {false, false};
  bool broken = false;
  std::size_t limit = 256;  // messages in flight each way
  status verdict;
};

class stream_end final : public message_stream {
 public:
  stream_end(std::shared_ptr<stream_pipe> pipe, int side) : pipe_(std::move(pipe)), side_(side) {}
  ~stream_end() override {
    std::lock_guard lock(pipe_->mutex);
    pipe_->closed[side_] = true;
    pipe_->closed[1 - side_] = true;
    pipe_->wake_all();
  }
  bool write(std::string_view message) override {
    std::unique_lock lock(pipe_->mutex);
    auto& q = pipe_->queues[side_];
    pipe_->writable[side_].wait(
        lock, [&] { return pipe_->broken || pipe_->closed[side_] || q.size() < pipe_->limit; });
    if (pipe_->broken || pipe_->closed[side_]) return false;
    q.emplace_back(message);
    if (q.size() == 1) pipe_->readable[side_].notify_all();
    return true;
  }
  void writes_done() override {
    std::lock_guard lock(pipe_->mutex);
    pipe_->closed[side_] = true;
    pipe_->wake_all();
  }
  bool read(std::string& message) override {
    std::unique_lock lock(pipe_->mutex);
    auto& q = pipe_->queues[1 - side_];
    pipe_->readable[1 - side_].wait(lock,
                                    [&] { return pipe_->broken || pipe_->closed[1 - side_] || !q.empty(); });
    if (pipe_->broken || q.empty()) return false;
    message = std::move(q.front());
    if (q.size() == pipe_->limit) pipe_->writable[1 - side_].notify_all();
    q.pop_front();
    return true;
  }
  status finish() override {
    std::lock_guard lock(pipe_->mutex);
    return pipe_->verdict;
  }
  /// Ends the stream with what the other side's finish() is to answer.
  void end(status verdict) {
    std::lock_guard lock(pipe_->mutex);
    pipe_->verdict = std::move(verdict);
    pipe_->closed[side_] = true;
    pipe_->wake_all();
  }
  void break_off() {
    std::lock_guard lock(pipe_->mutex);
    pipe_->broken = true;
    pipe_->wake_all();
  }

 private:
  std::shared_ptr<stream_pipe> pipe_;
  int side_;
};

inline std::pair<std::unique_ptr<stream_end>, std::unique_ptr<stream_end>> make_stream_pair() {
  auto pipe = std::make_shared<stream_pipe>();
  return {std::make_unique<stream_end>(pipe, 0), std::make_unique<stream_end>(pipe, 1)};
}

}  // namespace kiln::test
