// The server's end of a bidirectional stream for threads that may block: the mirror of generic_stream. gRPC's
// callbacks and the call's threads meet under one mutex; nothing blocks on gRPC's side.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <stop_token>

#include "configs/gateway.hpp"
#include "gateway/control/status_convert.hpp"

namespace kiln::gateway {

template <class Request, class Response>
class served_stream final : public grpc::ServerBidiReactor<Request, Response> {
 public:
  using pointer = std::shared_ptr<served_stream>;

  static pointer make() {
    pointer call(new served_stream);
    call->self_ = call;
    call->reading_ = true;
    call->StartRead(&call->incoming_);
    return call;
  }

  /// Stops when the client goes away, or the server.
  std::stop_token gone() const { return gone_.get_token(); }

  /// False at the end of the client's side, or when nobody is to read any more.
  bool read(Request& message) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !received_.empty() || read_ended_; });
    if (received_.empty()) return false;
    message = std::move(received_.front().first);
    received_bytes_ -= received_.front().second;
    received_.pop_front();
    start_read();
    return true;
  }
  /// No read() finds anything any more.
  void end_reads() {
    std::lock_guard lock(mutex_);
    read_ended_ = true;
    received_.clear();
    changed_.notify_all();
  }
  /// Blocks while the client is slow; false when it is gone.
  bool write(Response message) {
    auto size = message.ByteSizeLong() + 1;
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] {
      return broken_ || finished_ || outgoing_bytes_ < configs::gateway::stream_write_ahead_bytes;
    });
    if (broken_ || finished_) return false;
    outgoing_bytes_ += size;
    outgoing_.emplace_back(std::move(message), size);
    if (!writing_) start_write();
    return true;
  }
  /// Ends the call once everything written has left.
  void finish(status verdict) {
    std::unique_lock lock(mutex_);
    if (ending_) return;
    ending_ = true;
    verdict_ = std::move(verdict);
    read_ended_ = true;
    changed_.notify_all();
    try_finish(lock);
  }

 private:
  served_stream() = default;

  void start_read() {  // with mutex_ held
    if (reading_ || read_ended_ || finished_ || broken_) return;
    if (received_bytes_ >= configs::gateway::stream_read_ahead_bytes) return;
    reading_ = true;
    this->StartRead(&incoming_);
  }
  void start_write() {  // with mutex_ held
    writing_ = true;
    current_ = std::move(outgoing_.front().first);
    current_bytes_ = outgoing_.front().second;
    outgoing_.pop_front();
    this->StartWrite(&current_);
  }
  void try_finish(std::unique_lock<std::mutex>& lock) {
    if (!ending_ || finished_ || (writing_ && !broken_)) return;
    finished_ = true;
    auto verdict = verdict_.ok() ? grpc::Status::OK : to_grpc(verdict_.error());
    lock.unlock();
    this->Finish(std::move(verdict));
  }
  void OnReadDone(bool ok) override {
    std::lock_guard lock(mutex_);
    reading_ = false;
    if (!ok) {
      read_ended_ = true;
    } else if (!read_ended_) {
      auto size = incoming_.ByteSizeLong() + 1;
      received_bytes_ += size;
      received_.emplace_back(std::move(incoming_), size);
      incoming_.Clear();
      start_read();
    }
    changed_.notify_all();
  }
  void OnWriteDone(bool ok) override {
    std::unique_lock lock(mutex_);
    writing_ = false;
    outgoing_bytes_ -= current_bytes_;
    if (!ok) broken_ = true;
    if (broken_) outgoing_.clear();
    if (!outgoing_.empty()) start_write();
    changed_.notify_all();
    try_finish(lock);
  }
  void OnCancel() override {
    gone_.request_stop();
    std::unique_lock lock(mutex_);
    broken_ = read_ended_ = true;
    outgoing_.clear();
    changed_.notify_all();
    try_finish(lock);
  }
  void OnDone() override {
    gone_.request_stop();
    pointer last;
    std::lock_guard lock(mutex_);
    broken_ = read_ended_ = true;
    changed_.notify_all();
    last.swap(self_);
  }

  pointer self_;
  std::stop_source gone_;
  std::mutex mutex_;
  std::condition_variable changed_;
  Request incoming_;
  Response current_;
  std::deque<std::pair<Request, std::size_t>> received_;
  std::deque<std::pair<Response, std::size_t>> outgoing_;
  std::size_t received_bytes_ = 0;
  std::size_t outgoing_bytes_ = 0;
  std::size_t current_bytes_ = 0;
  status verdict_;
  bool reading_ = false;
  bool writing_ = false;
  bool read_ended_ = false;
  bool broken_ = false;
  bool ending_ = false;
  bool finished_ = false;
};

}  // namespace kiln::gateway
