// The base of every server-side call: exactly one Finish, whatever happens first — an answer, an error, or
// a client that vanishes. Answers may come from any thread; nothing here blocks.
// Knows nothing of actors. Each call owns itself until gRPC is done with it.
#pragma once

#include <grpcpp/support/server_callback.h>

#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string_view>
#include <utility>

#include "base/result.hpp"
#include "gateway/control/status_convert.hpp"

namespace kiln::gateway {

/// Logs a call that failed, with its method; a client's own cancellation is no failure.
void log_failure(std::string_view method, const error& e);
/// Where it came about, for who looks for the cause (log level debug).
void log_stacks(const error& e);

inline error client_gone() { return make_error(errc::cancelled, "context canceled"); }

/// The part every kind of call shares: the finished flag and what to do when the client goes away.
class call_state {
 public:
  /// Runs once if the client vanishes before the call is finished (at once when it has already).
  void on_cancel(std::function<void()> hook) {
    {
      std::lock_guard lock(mutex_);
      if (!left_) {
        if (!finished_) hook_ = std::move(hook);
        return;
      }
    }
    hook();
  }

 protected:
  /// True for exactly one caller, who then must call Finish.
  bool claim_finish() {
    std::function<void()> drop;
    std::lock_guard lock(mutex_);
    if (finished_) return false;
    finished_ = true;
    drop.swap(hook_);
    return true;
  }
  /// The client has gone: unless the call has ended, `end` ends it as claim_finish() lets one do, and only
  /// then the hook runs: the end of who works for the call would else become the call's own.
  template <class End>
  void leave(End end) {
    std::function<void()> hook;
    {
      std::lock_guard lock(mutex_);
      if (finished_) return;
      finished_ = left_ = true;
      hook.swap(hook_);
    }
    end();
    if (hook) hook();
  }
  bool is_finished() const { return finished_; }  // with mutex_ held

  mutable std::mutex mutex_;

 private:
  bool finished_ = false;
  bool left_ = false;
  std::function<void()> hook_;
};

/// A unary call waiting for its answer.
template <class Response>
class unary_call final : public grpc::ServerUnaryReactor, public call_state {
 public:
  using pointer = std::shared_ptr<unary_call>;

  /// `method` must outlive the call (a literal).
  static pointer make(std::string_view method, Response* response) {
    pointer call(new unary_call(method, response));
    call->self_ = call;
    return call;
  }

  /// Runs once just before the end, with the error or null. Set it before the call can end.
  void on_finish(std::function<void(const error*)> hook) { finish_hook_ = std::move(hook); }

  void succeed(Response&& answer) {
    if (!claim_finish()) return;
    response_->Swap(&answer);
    if (finish_hook_) std::exchange(finish_hook_, nullptr)(nullptr);
    Finish(grpc::Status::OK);
  }
  void fail(const error& e) {
    if (claim_finish()) end(e);
  }

 private:
  unary_call(std::string_view method, Response* response) : method_(method), response_(response) {}

  void end(const error& e) {
    if (finish_hook_) {
      std::exchange(finish_hook_, nullptr)(&e);
    } else {
      log_failure(method_, e);
    }
    Finish(to_grpc(e));
  }
  void OnCancel() override {
    leave([this] { end(client_gone()); });
  }
  void OnDone() override { self_.reset(); }

  std::string_view method_;
  Response* response_;
  std::function<void(const error*)> finish_hook_;
  pointer self_;
};

/// A call that answers with a stream. Messages may be sent from any thread; they queue while the client
/// is slow. Nothing is lost between the last send() and succeed().
template <class Response>
class stream_call final : public grpc::ServerWriteReactor<Response>, public call_state {
 public:
  using pointer = std::shared_ptr<stream_call>;

  static pointer make(std::string_view method) {
    pointer call(new stream_call(method));
    call->self_ = call;
    return call;
  }

  /// Sends the response headers now rather than with the first message.
  void send_headers() {
    std::lock_guard lock(this->mutex_);
    if (!this->is_finished()) this->StartSendInitialMetadata();
  }
  /// False once the call is over, so the producer may stop.
  bool send(Response message) {
    std::lock_guard lock(this->mutex_);
    if (this->is_finished() || ending_) return false;
    queued_bytes_ += message.ByteSizeLong();
    queue_.push_back(std::move(message));
    if (!writing_) start_write();
    return true;
  }
  /// Bytes queued for a slow client.
  std::size_t backlog_bytes() const {
    std::lock_guard lock(this->mutex_);
    return queued_bytes_;
  }
  /// Called (once) when nothing is queued any more; at once when nothing is.
  void on_drained(std::function<void()> next) {
    {
      std::lock_guard lock(this->mutex_);
      if (this->is_finished()) return;
      if (writing_) {
        drained_ = std::move(next);
        return;
      }
    }
    next();
  }
  /// Ends the stream well once everything queued is written.
  void succeed() {
    {
      std::lock_guard lock(this->mutex_);
      if (ending_) return;
      ending_ = true;
      if (writing_) return;
    }
    if (this->claim_finish()) this->Finish(grpc::Status::OK);
  }
  /// Ends the stream with an error whatever is queued, and whoever feeds it: as if the client had gone.
  void give_up(const error& e) {
    this->leave([&] { end(e); });
  }
  /// Ends the stream with an error, unless it was already told to end well.
  void fail(const error& e) {
    {
      std::lock_guard lock(this->mutex_);
      if (ending_) return;
    }
    if (this->claim_finish()) end(e);
  }

 private:
  explicit stream_call(std::string_view method) : method_(method) {}

  void end(const error& e) {
    log_failure(method_, e);
    this->Finish(to_grpc(e));
  }
  void start_write() {  // with mutex_ held
    writing_ = true;
    current_ = std::move(queue_.front());
    queue_.pop_front();
    this->StartWrite(&current_);
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return give_up(client_gone());
    std::function<void()> next;
    bool over = false;
    {
      std::lock_guard lock(this->mutex_);
      if (this->is_finished()) return;
      queued_bytes_ -= std::min(queued_bytes_, current_.ByteSizeLong());
      writing_ = false;
      if (!queue_.empty()) {
        start_write();
      } else {
        over = ending_;
        next.swap(drained_);
      }
    }
    if (next) next();
    if (over && this->claim_finish()) this->Finish(grpc::Status::OK);
  }
  void OnCancel() override { give_up(client_gone()); }
  void OnDone() override {
    std::function<void()> drop;
    {
      std::lock_guard lock(this->mutex_);
      drop.swap(drained_);
    }
    self_.reset();
  }

  std::string_view method_;
  pointer self_;
  Response current_;
  std::deque<Response> queue_;
  std::function<void()> drained_;
  std::size_t queued_bytes_ = 0;
  bool writing_ = false;
  bool ending_ = false;
};

}  // namespace kiln::gateway
