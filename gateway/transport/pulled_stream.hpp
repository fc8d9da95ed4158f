// The client's end of a stream of messages from a server, for a thread that may block, but not for ever:
// whoever sends nothing for too long is given up. Callbacks run on gRPC's threads and never block.
#pragma once

#include <grpcpp/client_context.h>
#include <grpcpp/support/client_callback.h>

#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <stop_token>

#include "gateway/control/status_convert.hpp"

namespace kiln::gateway {

template <class Response>
class pulled_stream {
 public:
  using reactor = grpc::ClientReadReactor<Response>;
  enum class outcome { message, end, idle };

  /// `begin(context, reactor)` is the stub's call.
  template <class Begin>
  pulled_stream(std::size_t read_ahead, std::stop_token stop, Begin begin)
      : core_(std::make_shared<core>(read_ahead)), stop_(std::move(stop), cancel_call{core_}) {
    core_->reading = true;
    begin(&core_->context, core_.get());
    core_->AddHold();  // for reads that the consumer starts
    core_->StartRead(&core_->incoming);
    core_->StartCall();
  }
  ~pulled_stream() {
    core_->context.TryCancel();
    std::unique_lock lock(core_->mutex);
    core_->abandoned = true;
    core_->read_on(lock);
    // Cancelled, it is over at once. Waited for, so that neither the call nor what it keeps alive ends on one
    // of gRPC's own threads: the last channel of all would have to join the thread it ends on.
    core_->changed.wait(lock, [this] { return core_->done; });
  }
  pulled_stream(const pulled_stream&) = delete;
  pulled_stream& operator=(const pulled_stream&) = delete;

  /// Waits for the next message, but no longer than `patience`.
  outcome next(Response& message, std::chrono::milliseconds patience) {
    std::unique_lock lock(core_->mutex);
    if (!core_->changed.wait_for(lock, patience,
                                 [this] { return !core_->received.empty() || core_->read_ended; }))
      return outcome::idle;
    if (core_->received.empty()) return outcome::end;
    message = std::move(core_->received.front());
    core_->received.pop_front();
    core_->read_on(lock);
    return outcome::message;
  }
  /// How the call ended; once next() has told the end.
  status verdict() {
    std::unique_lock lock(core_->mutex);
    core_->changed.wait(lock, [this] { return core_->done; });
    if (core_->end.ok()) return {};
    return from_grpc(core_->end);
  }

 private:
  struct core final : reactor {
    explicit core(std::size_t ahead) : read_ahead(ahead) {}

    void read_on(std::unique_lock<std::mutex>&) {  // with the mutex held
      if (reading || read_ended || (!abandoned && received.size() >= read_ahead)) return;
      reading = true;
      this->StartRead(&incoming);
    }
    void OnReadDone(bool ok) override {
      std::unique_lock lock(mutex);
      reading = false;
      if (!ok) {
        read_ended = true;
        this->RemoveHold();
      } else {
        if (!abandoned) received.push_back(std::move(incoming));
        incoming.Clear();
        read_on(lock);
      }
      changed.notify_all();
    }
    void OnDone(const grpc::Status& s) override {
      std::lock_guard lock(mutex);
      end = s;
      done = read_ended = true;
      changed.notify_all();
    }

    const std::size_t read_ahead;
    grpc::ClientContext context;
    std::mutex mutex;
    std::condition_variable changed;
    Response incoming;
    std::deque<Response> received;
    grpc::Status end;
    bool reading = false;
    bool read_ended = false;
    bool abandoned = false;
    bool done = false;
  };
  struct cancel_call {
    std::shared_ptr<core> of;
    void operator()() { of->context.TryCancel(); }
  };

  std::shared_ptr<core> core_;
  std::stop_callback<cancel_call> stop_;
};

}  // namespace kiln::gateway
