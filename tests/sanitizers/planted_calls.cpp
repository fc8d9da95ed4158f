// As planted.cpp, with what passes through gRPC: a server whose handlers answer from their own thread or
// another, clients that wait and clients that are called back. `planted_calls NAME` has one fault;
// `planted_calls calls` has none.
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/support/server_callback.h>
#include <unistd.h>

#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

using text = std::string;

grpc::ByteBuffer to_buffer(const text& bytes) {
  grpc::Slice slice(bytes);
  return {&slice, 1};
}

text to_text(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  text out;
  if (!buffer.Dump(&slices).ok()) return out;
  for (const auto& slice : slices) out.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  return out;
}

/// What handlers do with a question.
using handler = std::function<text(const text&)>;

/// /planted/ask, as generated code has it.
class asked final : public grpc::Service {
 public:
  explicit asked(handler answer) : answer_(std::move(answer)) {
    using buffer = grpc::ByteBuffer;
    AddMethod(
        new grpc::internal::RpcServiceMethod("/planted/ask", grpc::internal::RpcMethod::NORMAL_RPC, nullptr));
    MarkMethodCallback(
        0, new grpc::internal::CallbackUnaryHandler<buffer, buffer>(
               [this](grpc::CallbackServerContext* context, const buffer* question, buffer* reply) {
                 *reply = to_buffer(answer_(to_text(*question)));
                 auto* reactor = context->DefaultReactor();
                 reactor->Finish(grpc::Status::OK);
                 return reactor;
               }));
  }

 private:
  handler answer_;
};

/// Everything else: one answer for each message, given by a thread of its own, until the client is done or
/// gone.
class streamed final : public grpc::CallbackGenericService {
 public:
  explicit streamed(handler answer) : answer_(std::move(answer)) {}

  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext*) override {
    struct stream final : grpc::ServerGenericBidiReactor {
      const handler& answer;
      grpc::ByteBuffer in, out;
      int answered = 0;
      text last = "nothing";
      std::mutex mutex;
      std::thread helper;  // mutex

      explicit stream(const handler& a) : answer(a) { StartRead(&in); }
      void OnReadDone(bool ok) override {
        std::lock_guard lock(mutex);
        if (helper.joinable()) helper.join();
        if (!ok)
          return Finish(
              {grpc::StatusCode::OUT_OF_RANGE, std::to_string(answered) + " answered, last " + last});
        helper = std::thread([this] {
          last = answer(to_text(in));
          ++answered;
          out = to_buffer(last);
          StartWrite(&out);
        });
      }
      void OnWriteDone(bool ok) override {
        if (ok) StartRead(&in);
        else Finish(grpc::Status::CANCELLED);
      }
      void OnCancel() override { std::printf("%s", last.empty() ? "\n" : ""); }
      void OnDone() override {
        {
          std::lock_guard lock(mutex);
          if (helper.joinable()) helper.join();
        }
        delete this;
      }
    };
    return new stream(answer_);
  }

 private:
  handler answer_;
};

struct served {
  asked unary;
  streamed streams;
  text directory = "/tmp/planted-XXXXXX";
  std::unique_ptr<grpc::Server> server;
  std::shared_ptr<grpc::Channel> channel;

  explicit served(const handler& answer) : unary(answer), streams(answer) {
    if (!mkdtemp(directory.data())) std::abort();
    auto address = "unix:" + directory + "/socket";
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address, grpc::InsecureServerCredentials());
    builder.RegisterService(&unary);
    builder.RegisterCallbackGenericService(&streams);
    server = builder.BuildAndStart();
    if (!server) std::abort();
    channel = grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
  }
  ~served() {
    server->Shutdown();
    server.reset();
    unlink((directory + "/socket").c_str());
    rmdir(directory.c_str());
  }
};

/// A call whose client waits for what it is called back with; `before` is done once it has begun.
text call_back(const std::shared_ptr<grpc::Channel>& channel, const text& question,
               const std::function<void(text&)>& before = {}) {
  struct state {
    grpc::ClientContext context;
    grpc::ByteBuffer question, reply;
    text note = "asked";
    std::mutex mutex;
    std::condition_variable changed;
    text result;
    bool over = false;
  } call;
  call.question = to_buffer(question);
  grpc::GenericStub stub(channel);
  stub.UnaryCall(
      &call.context, "/planted/ask", {}, &call.question, &call.reply, [&call](grpc::Status verdict) {
        auto result = verdict.ok() ? to_text(call.reply) + " (" + call.note + ")" : verdict.error_message();
        std::lock_guard lock(call.mutex);
        call.result = result;
        call.over = true;
        call.changed.notify_all();
      });
  if (before) before(call.note);
  std::unique_lock lock(call.mutex);
  call.changed.wait(lock, [&] { return call.over; });
  return call.result;
}

/// A stream of `messages`, each sent once the one before was answered; cut off at the end, or ended.
text stream(const std::shared_ptr<grpc::Channel>& channel, int messages, bool cut) {
  struct client final : grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
    grpc::ClientContext context;
    grpc::ByteBuffer out, in;
    int left = 0;
    bool cut = false;
    text said;
    std::mutex mutex;
    std::condition_variable changed;
    bool over = false;

    void go_on() {
      if (left-- > 0) {
        out = to_buffer("message " + std::to_string(left));
        StartWrite(&out);
      } else if (cut) {
        context.TryCancel();
      } else {
        StartWritesDone();
      }
    }
    void OnWriteDone(bool ok) override {
      if (ok) StartRead(&in);
    }
    void OnReadDone(bool ok) override {
      if (!ok) return;
      said += to_text(in);
      go_on();
    }
    void OnDone(const grpc::Status& verdict) override {
      std::lock_guard lock(mutex);
      said += verdict.error_message();
      over = true;
      changed.notify_all();
    }
  } reactor;
  reactor.left = messages;
  reactor.cut = cut;
  grpc::GenericStub stub(channel);
  stub.PrepareBidiStreamingCall(&reactor.context, "/planted/stream", {}, &reactor);
  reactor.go_on();
  reactor.StartCall();
  std::unique_lock lock(reactor.mutex);
  reactor.changed.wait(lock, [&] { return reactor.over; });
  return reactor.said;
}

void many(int count, const std::function<void()>& work) {
  std::vector<std::thread> all;
  for (int i = 0; i < count; ++i) all.emplace_back(work);
  for (auto& thread : all) thread.join();
}

/// State that goes with calls both ways, answers, ends, and a server's own beginning and end.
void only_calls() {
  auto shared = std::make_unique<text>("before it began");
  text told;
  served s([&](const text& question) { return question + ", " + told + ", " + *shared; });
  told = "told by a call";  // which is what hands it over
  many(4, [&] {
    for (int i = 0; i < 20; ++i) {
      call_back(s.channel, "question " + std::to_string(i));
      stream(s.channel, 3, i % 2 == 0);
    }
  });
  s.server->Shutdown();
  *shared = "after it ended";
}

/// Handlers that all count in one place.
void count_without_lock() {
  int count = 0;
  {
    served s([&](const text&) { return std::to_string(++count); });
    many(4, [&] {
      for (int i = 0; i < 500; ++i) call_back(s.channel, "x");
    });
  }
  std::printf("counted %d\n", count);
}

/// What is written after a call has begun is not what its end hands over.
void write_after_calling() {
  served s([](const text& question) { return question; });
  for (int i = 0; i < 500; ++i) call_back(s.channel, "x", [](text& note) { note += ", and then some more"; });
}

}  // namespace

int main(int argc, char** argv) {
  std::string_view name = argc > 1 ? argv[1] : "";
  if (name == "count") count_without_lock();
  else if (name == "late") write_after_calling();
  else if (name == "calls") only_calls();
  else return 2;
  return 0;
}
