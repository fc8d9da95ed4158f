#include "gateway/transport/generic_call.hpp"

#include <grpcpp/client_context.h>
#include <grpcpp/generic/generic_stub.h>

#include <condition_variable>
#include <deque>
#include <mutex>

#include "configs/gateway.hpp"
#include "gateway/control/status_convert.hpp"

namespace kiln::gateway {

namespace {

grpc::ByteBuffer to_buffer(std::string_view bytes) {
  grpc::Slice slice(bytes.data(), bytes.size());
  return grpc::ByteBuffer(&slice, 1);
}

void append(const grpc::ByteBuffer& buffer, std::string& out) {
  std::vector<grpc::Slice> slices;
  if (!buffer.Dump(&slices).ok()) return;
  for (const auto& slice : slices) out.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
}

void prepare(grpc::ClientContext& context, const call_metadata& metadata, std::chrono::milliseconds timeout) {
  for (const auto& [key, value] : metadata) context.AddMetadata(key, value);
  if (timeout.count() > 0) context.set_deadline(std::chrono::system_clock::now() + timeout);
}

struct pending_unary {
  grpc::ClientContext context;
  grpc::ByteBuffer request;
  grpc::ByteBuffer response;
};

/// The stream of one call. gRPC's callbacks and the job's threads meet under one mutex; the job's handle
/// and the call each hold a reference, so either may go first.
class stream_core final : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>,
                          public std::enable_shared_from_this<stream_core> {
 public:
  void start(const std::shared_ptr<grpc::Channel>& channel, const std::string& method,
             const call_metadata& metadata) {
    channel_ = channel;
    prepare(context_, metadata, std::chrono::milliseconds{0});
    grpc::GenericStub stub(channel);
    stub.PrepareBidiStreamingCall(&context_, method, {}, this);
    self_ = shared_from_this();
    AddHold();  // for what the job's threads start; until the last read has failed
    reading_ = true;
    StartRead(&incoming_);
    StartCall();
  }

  void cancel() { context_.TryCancel(); }

  bool write(std::string_view message) {
    auto buffer = to_buffer(message);
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] {
      return broken_ || writes_ended_ || outgoing_bytes_ < configs::gateway::stream_write_ahead_bytes;
    });
    if (broken_ || writes_ended_) return false;
    outgoing_bytes_ += message.size() + 1;
    outgoing_.emplace_back(std::move(buffer), message.size() + 1);
    if (!writing_) start_write();
    return true;
  }

  void writes_done() {
    std::lock_guard lock(mutex_);
    if (writes_ended_) return;
    writes_ended_ = true;
    if (!writing_) end_writes();
  }

  bool read(std::string& message) {
    if (batch_.empty()) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return !received_.empty() || read_ended_; });
      if (received_.empty()) return false;
      batch_.swap(received_);
      received_bytes_ = 0;
      if (!reading_ && !read_ended_) {
        reading_ = true;
        StartRead(&incoming_);
      }
    }
    message = std::move(batch_.front());
    batch_.pop_front();
    return true;
  }

  status finish() {
    writes_done();
    std::unique_lock lock(mutex_);
    // Whatever the reader did not want must not hold the verdict up.
    abandoned_ = true;
    received_.clear();
    received_bytes_ = 0;
    if (!reading_ && !read_ended_ && !done_) {
      reading_ = true;
      StartRead(&incoming_);
    }
    changed_.wait(lock, [&] { return done_; });
    if (verdict_.ok()) return {};
    return from_grpc(verdict_);
  }

  /// The job's handle is gone: end the call in any case.
  void abandon() {
    {
      std::lock_guard lock(mutex_);
      if (done_) return;
      abandoned_ = true;
    }
    cancel();
    writes_done();
    std::lock_guard lock(mutex_);
    if (!reading_ && !read_ended_ && !done_) {
      reading_ = true;
      StartRead(&incoming_);
    }
  }

 private:
  void start_write() {  // with mutex_ held
    writing_ = true;
    current_ = std::move(outgoing_.front().first);
    current_bytes_ = outgoing_.front().second;
    outgoing_.pop_front();
    StartWrite(&current_);
  }
  void end_writes() {  // with mutex_ held, nothing being written
    if (broken_) return;
    writing_ = true;
    StartWritesDone();
  }
  void OnWriteDone(bool ok) override {
    std::lock_guard lock(mutex_);
    writing_ = false;
    if (!ok) broken_ = true;
    if (broken_) {
      outgoing_.clear();
      outgoing_bytes_ = 0;
      changed_.notify_all();
      return;
    }
    bool was_full = outgoing_bytes_ >= configs::gateway::stream_write_ahead_bytes;
    outgoing_bytes_ -= current_bytes_;
    if (!outgoing_.empty()) {
      start_write();
    } else if (writes_ended_) {
      end_writes();
    }
    if (was_full) changed_.notify_all();
  }
  void OnReadDone(bool ok) override {
    std::string message;
    if (ok) append(incoming_, message);
    std::lock_guard lock(mutex_);
    reading_ = false;
    if (!ok) {
      // The peer is done: nothing is started on this call any more, so gRPC may end it.
      read_ended_ = broken_ = true;
      RemoveHold();
      changed_.notify_all();
      return;
    }
    if (!abandoned_) {
      bool wake = received_.empty();
      received_bytes_ += message.size() + 1;
      received_.push_back(std::move(message));
      if (wake) changed_.notify_all();
    }
    if (abandoned_ || received_bytes_ < configs::gateway::stream_read_ahead_bytes) {
      reading_ = true;
      StartRead(&incoming_);
    }
  }
  void OnDone(const grpc::Status& verdict) override {
    std::shared_ptr<stream_core> last;
    std::lock_guard lock(mutex_);
    verdict_ = verdict;
    done_ = broken_ = read_ended_ = true;
    changed_.notify_all();
    last.swap(self_);
  }

  std::shared_ptr<grpc::Channel> channel_;
  grpc::ClientContext context_;
  std::shared_ptr<stream_core> self_;
  std::deque<std::string> batch_;  // of the reading thread alone

  std::mutex mutex_;
  std::condition_variable changed_;
  grpc::ByteBuffer incoming_;
  grpc::ByteBuffer current_;
  std::deque<std::string> received_;
  std::deque<std::pair<grpc::ByteBuffer, std::size_t>> outgoing_;
  std::size_t received_bytes_ = 0;
  std::size_t outgoing_bytes_ = 0;
  std::size_t current_bytes_ = 0;
  grpc::Status verdict_;
  bool reading_ = false;
  bool writing_ = false;
  bool writes_ended_ = false;
  bool read_ended_ = false;
  bool broken_ = false;
  bool abandoned_ = false;
  bool done_ = false;
};

class stream_handle final : public message_stream {
 public:
  stream_handle(std::shared_ptr<stream_core> core, std::stop_token stop)
      : core_(std::move(core)), stop_(std::move(stop), [core = core_] { core->cancel(); }) {}
  ~stream_handle() override { core_->abandon(); }
  bool write(std::string_view message) override { return core_->write(message); }
  void writes_done() override { core_->writes_done(); }
  bool read(std::string& message) override { return core_->read(message); }
  status finish() override { return core_->finish(); }

 private:
  std::shared_ptr<stream_core> core_;
  std::stop_callback<std::function<void()>> stop_;
};

}  // namespace

void generic_unary_async(const std::shared_ptr<grpc::Channel>& channel, std::string_view method,
                         std::string_view request, std::chrono::milliseconds timeout,
                         std::function<void(result<std::string>)> answer) {
  auto call = std::make_shared<pending_unary>();
  prepare(call->context, {}, timeout);
  call->request = to_buffer(request);
  grpc::GenericStub stub(channel);
  stub.UnaryCall(&call->context, std::string(method), {}, &call->request, &call->response,
                 [call, channel, answer = std::move(answer)](grpc::Status verdict) {
                   if (!verdict.ok()) return answer(from_grpc(verdict));
                   std::string bytes;
                   append(call->response, bytes);
                   answer(std::move(bytes));
                 });
}

result<std::string> generic_unary(const std::shared_ptr<grpc::Channel>& channel, std::string_view method,
                                  std::string_view request, const call_metadata& metadata,
                                  std::chrono::milliseconds timeout, std::stop_token stop) {
  struct waiter {
    std::mutex mutex;
    std::condition_variable changed;
    std::optional<grpc::Status> verdict;
  } wait;
  pending_unary call;
  prepare(call.context, metadata, timeout);
  call.request = to_buffer(request);
  grpc::GenericStub stub(channel);
  stub.UnaryCall(&call.context, std::string(method), {}, &call.request, &call.response,
                 [&wait](grpc::Status verdict) {
                   std::lock_guard lock(wait.mutex);
                   wait.verdict = std::move(verdict);
                   wait.changed.notify_all();
                 });
  std::stop_callback cancel(stop, [&call] { call.context.TryCancel(); });
  std::unique_lock lock(wait.mutex);
  wait.changed.wait(lock, [&] { return wait.verdict.has_value(); });
  if (!wait.verdict->ok()) {
    auto e = from_grpc(*wait.verdict);
    if (e.code == errc::cancelled && stop.stop_requested()) e.message = "context canceled";
    return e;
  }
  std::string bytes;
  append(call.response, bytes);
  return bytes;
}

std::unique_ptr<message_stream> generic_stream(const std::shared_ptr<grpc::Channel>& channel,
                                               std::string_view method, const call_metadata& metadata,
                                               std::stop_token stop) {
  auto core = std::make_shared<stream_core>();
  core->start(channel, std::string(method), metadata);
  return std::make_unique<stream_handle>(std::move(core), std::move(stop));
}

}  // namespace kiln::gateway
