#include <catch2/catch.hpp>

#include <atomic>
#include <thread>

#include "fakes.hpp"
#include "filesync.grpc.pb.h"
#include "health.grpc.pb.h"
#include "messages/rpc_status.hpp"
#include "rpc_status.pb.h"
#include "secrets.grpc.pb.h"
#include "session_client.hpp"

using namespace kiln;
using namespace kiln::testing;
using std::chrono::milliseconds;
using std::chrono::seconds;

namespace {

namespace fsync_pb = moby::filesync::v1;
namespace secrets_pb = moby::buildkit::secrets::v1;

constexpr auto get_secret = "/moby.buildkit.secrets.v1.Secrets/GetSecret";
constexpr auto file_send = "/moby.filesync.v1.FileSend/DiffCopy";
constexpr auto diff_copy = "/moby.filesync.v1.FileSync/DiffCopy";

struct client_health final : grpc::health::v1::Health::Service {
  std::atomic<int> checks{0};
  std::atomic<bool> healthy{true};
  grpc::Status Check(grpc::ServerContext*, const grpc::health::v1::HealthCheckRequest*,
                     grpc::health::v1::HealthCheckResponse* r) override {
    ++checks;
    if (!healthy) return {grpc::StatusCode::UNAVAILABLE, "sick"};
    r->set_status(grpc::health::v1::HealthCheckResponse::SERVING);
    return grpc::Status::OK;
  }
};

struct client_secrets final : secrets_pb::Secrets::Service {
  box<bool> blocked;
  grpc::Status GetSecret(grpc::ServerContext* context, const secrets_pb::GetSecretRequest* q,
                         secrets_pb::GetSecretResponse* r) override {
    if (q->id() == "token") {
      r->set_data("s3cret");
      return grpc::Status::OK;
    }
    if (q->id() == "large") {
      r->set_data(std::string(15 << 20, 'x'));
      return grpc::Status::OK;
    }
    if (q->id() == "metadata") {
      auto [from, to] = context->client_metadata().equal_range("k");
      std::string all;
      for (; from != to; ++from) all += std::string(from->second.data(), from->second.size()) + ";";
      r->set_data(all);
      return grpc::Status::OK;
    }
    if (q->id() == "block") {
      blocked.put(true);
      while (!context->IsCancelled()) std::this_thread::yield();
      return {grpc::StatusCode::CANCELLED, "stopped"};
    }
    auto e = make_error(errc::not_found, "secret " + q->id() + ": not found");
    e.details.push_back({"github.com/moby/buildkit/errdefs.Vertex+json", "{\"digest\":\"d\"}"});
    google::rpc::Status details;
    to_rpc_status(e, details);
    return {grpc::StatusCode::NOT_FOUND, e.message, details.SerializeAsString()};
  }
};

/// Answers each message with its length, then what it received in all.
struct client_files final : fsync_pb::FileSend::Service {
  grpc::Status DiffCopy(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<fsync_pb::BytesMessage, fsync_pb::BytesMessage>* s) override {
    auto count = context->client_metadata().find("messages");
    if (count != context->client_metadata().end()) {  // the client sends that many
      int n = std::stoi(std::string(count->second.data(), count->second.size()));
      fsync_pb::BytesMessage m;
      for (int i = 0; i < n; ++i) {
        m.set_data(std::to_string(i) + ":" + std::string(4096, 'f'));
        if (!s->Write(m)) return {grpc::StatusCode::CANCELLED, "peer left"};
      }
      return grpc::Status::OK;
    }
    fsync_pb::BytesMessage m;
    std::size_t bytes = 0;
    while (s->Read(&m)) bytes += m.data().size();
    m.set_data(std::to_string(bytes));
    s->Write(m);
    return grpc::Status::OK;
  }
};

struct client_sync final : fsync_pb::FileSync::Service {
  grpc::Status DiffCopy(grpc::ServerContext*,
                        grpc::ServerReaderWriter<fsutil::types::Packet, fsutil::types::Packet>* s) override {
    fsutil::types::Packet p;
    while (s->Read(&p)) s->Write(p);
    return {grpc::StatusCode::ALREADY_EXISTS, "target already exists"};
  }
};

struct session_fixture : gateway_fixture {
  client_health health;
  client_secrets secrets;
  client_files files;
  client_sync sync;
  std::unique_ptr<grpc::Server> far_server;
  std::shared_ptr<grpc::Channel> outer;

  session_fixture() {
    start();
    outer = channel();
    grpc::ServerBuilder builder;
    builder.RegisterService(&health);
    builder.RegisterService(&secrets);
    builder.RegisterService(&files);
    builder.RegisterService(&sync);
    builder.SetMaxReceiveMessageSize(16 << 20);
    far_server = builder.BuildAndStart();
  }
  ~session_fixture() {
    far_server->Shutdown(std::chrono::system_clock::now());
    server->shutdown();
  }
  std::unique_ptr<session_client> connect(const std::string& id,
                                          std::vector<std::pair<std::string, std::string>> more = {}) {
    return std::make_unique<session_client>(outer, id, far_server.get(),
                                            std::vector<std::string>{get_secret, file_send}, more);
  }
  std::shared_ptr<session_caller> caller(const std::string& id) {
    auto found = sessions->find(id, seconds{10}, {});
    if (!found.ok()) throw std::runtime_error(found.error().message);
    return *found;
  }
  result<std::string> secret(session_caller& c, const std::string& id, std::stop_token stop = {},
                             call_metadata metadata = {}) {
    secrets_pb::GetSecretRequest q;
    q.set_id(id);
    auto answer = c.call(get_secret, q.SerializeAsString(), metadata, seconds{60}, stop);
    if (!answer.ok()) return answer;
    secrets_pb::GetSecretResponse r;
    if (!r.ParseFromString(*answer)) return make_error(errc::internal, "no response");
    return r.data();
  }
  /// Waits until nothing of any session is left.
  bool empty() {
    for (int i = 0; i < 100'000; ++i) {
      if (sessions->size() == 0) return true;
      std::this_thread::yield();
    }
    return false;
  }
};

}  // namespace

TEST_CASE("a client's secret is fetched through its session") {
  session_fixture f;
  auto client = f.connect("s1");
  auto caller = f.caller("s1");
  CHECK(caller->shared_key() == "shared-s1");
  CHECK(caller->supports("/MOBY.buildkit.secrets.v1.Secrets/getsecret"));
  CHECK_FALSE(caller->supports(diff_copy));
  auto secret = f.secret(*caller, "token");
  REQUIRE(secret.ok());
  CHECK(*secret == "s3cret");
  CHECK(client->close().ok());
  CHECK(f.empty());
}

TEST_CASE("a prefixed session id finds the session") {
  session_fixture f;
  auto client = f.connect("s1");
  CHECK(f.sessions->find("platform:s1", seconds{10}, {}).ok());
}

TEST_CASE("a client's error comes back with code, text and details") {
  session_fixture f;
  auto client = f.connect("s1");
  auto missing = f.secret(*f.caller("s1"), "nothing");
  REQUIRE_FALSE(missing.ok());
  CHECK(missing.error().code == errc::not_found);
  CHECK(missing.error().message == "secret nothing: not found");
  REQUIRE(missing.error().details.size() == 1);
  CHECK(missing.error().details[0].value == "{\"digest\":\"d\"}");
}

TEST_CASE("an error text of 9 KB and more survives the metadata limits") {
  session_fixture f;
  auto client = f.connect("s1");
  auto missing = f.secret(*f.caller("s1"), std::string(60'000, 'n'));
  REQUIRE_FALSE(missing.ok());
  CHECK(missing.error().code == errc::not_found);
  CHECK(missing.error().message.size() > 60'000);
}

TEST_CASE("repeated metadata and messages of 15 MiB pass the tunnel") {
  session_fixture f;
  auto client = f.connect("s1");
  auto caller = f.caller("s1");
  CHECK(*f.secret(*caller, "metadata", {}, {{"k", "a"}, {"k", "b"}}) == "a;b;");
  CHECK(f.secret(*caller, "large")->size() == 15 << 20);
}

TEST_CASE("a stopped call ends at once and the session lives on") {
  session_fixture f;
  auto client = f.connect("s1");
  auto caller = f.caller("s1");
  std::stop_source stop;
  std::thread stopper([&] {
    f.secrets.blocked.get();
    stop.request_stop();
  });
  auto stopped = f.secret(*caller, "block", stop.get_token());
  stopper.join();
  REQUIRE_FALSE(stopped.ok());
  CHECK(stopped.error().code == errc::cancelled);
  CHECK(f.secret(*caller, "token").ok());
}

TEST_CASE("a call that takes too long misses its deadline") {
  session_fixture f;
  auto client = f.connect("s1");
  secrets_pb::GetSecretRequest q;
  q.set_id("block");
  auto late = f.caller("s1")->call(get_secret, q.SerializeAsString(), {}, milliseconds{50}, {});
  REQUIRE_FALSE(late.ok());
  CHECK(late.error().code == errc::deadline_exceeded);
}

TEST_CASE("a method the client does not serve is unimplemented") {
  session_fixture f;
  auto client = f.connect("s1");
  auto none = f.caller("s1")->call("/no.Such/Method", "", {}, seconds{10}, {});
  REQUIRE_FALSE(none.ok());
  CHECK(none.error().code == errc::unimplemented);
}

TEST_CASE("a stream uploads 64 MiB and gets the client's verdict") {
  session_fixture f;
  auto client = f.connect("s1");
  auto stream = f.caller("s1")->open(file_send, {}, {});
  REQUIRE(stream.ok());
  fsync_pb::BytesMessage m;
  m.set_data(std::string(1 << 20, 'u'));
  auto bytes = m.SerializeAsString();
  for (int i = 0; i < 64; ++i) REQUIRE((*stream)->write(bytes));
  (*stream)->writes_done();
  std::string answer;
  REQUIRE((*stream)->read(answer));
  REQUIRE(m.ParseFromString(answer));
  CHECK(m.data() == std::to_string(64 << 20));
  CHECK_FALSE((*stream)->read(answer));
  CHECK((*stream)->finish().ok());
}

TEST_CASE("a stream downloads 10,000 messages in order while the reader is slower than the sender") {
  session_fixture f;
  auto client = f.connect("s1");
  auto stream = f.caller("s1")->open(file_send, {{"messages", "10000"}}, {});
  REQUIRE(stream.ok());
  std::string bytes;
  fsync_pb::BytesMessage m;
  int i = 0;
  while ((*stream)->read(bytes)) {
    REQUIRE(m.ParseFromString(bytes));
    auto prefix = std::to_string(i) + ":";
    REQUIRE(m.data().substr(0, prefix.size()) == prefix);
    ++i;
    if (i % 100 == 0) std::this_thread::yield();
  }
  CHECK(i == 10'000);
  CHECK((*stream)->finish().ok());
}

TEST_CASE("both directions of a stream flow at once, and its error arrives at the end") {
  session_fixture f;
  auto client = f.connect("s1");
  auto stream = f.caller("s1")->open(diff_copy, {}, {});
  REQUIRE(stream.ok());
  std::thread writer([&] {
    fsutil::types::Packet p;
    p.set_type(fsutil::types::Packet::PACKET_DATA);
    p.set_data(std::string(32 << 10, 'd'));
    for (int i = 0; i < 500; ++i) {
      p.set_id(static_cast<unsigned>(i));
      (*stream)->write(p.SerializeAsString());
    }
    (*stream)->writes_done();
  });
  std::string bytes;
  unsigned expected = 0;
  fsutil::types::Packet p;
  while ((*stream)->read(bytes)) {
    REQUIRE(p.ParseFromString(bytes));
    CHECK(p.id() == expected++);
  }
  writer.join();
  CHECK(expected == 500);
  auto verdict = (*stream)->finish();
  REQUIRE_FALSE(verdict.ok());
  CHECK(verdict.error() == make_error(errc::already_exists, "target already exists"));
}

TEST_CASE("a stream dropped in the middle is cancelled and leaves the session usable") {
  session_fixture f;
  auto client = f.connect("s1");
  auto caller = f.caller("s1");
  for (int i = 0; i < 20; ++i) {
    auto stream = caller->open(file_send, {{"messages", "100000"}}, {});
    REQUIRE(stream.ok());
    std::string bytes;
    if (i % 2) REQUIRE((*stream)->read(bytes));
  }
  CHECK(f.secret(*caller, "token").ok());
}

TEST_CASE("a stopped stream ends its blocked reader") {
  session_fixture f;
  auto client = f.connect("s1");
  std::stop_source stop;
  auto stream = f.caller("s1")->open(diff_copy, {}, stop.get_token());
  REQUIRE(stream.ok());
  std::thread stopper([&] { stop.request_stop(); });
  std::string bytes;
  CHECK_FALSE((*stream)->read(bytes));
  stopper.join();
  CHECK((*stream)->finish().error().code == errc::cancelled);
}

TEST_CASE("a client that vanishes fails the calls under way and leaves nothing") {
  session_fixture f;
  auto client = f.connect("s1");
  auto caller = f.caller("s1");
  std::thread killer([&] {
    f.secrets.blocked.get();
    client->vanish();
  });
  auto lost = f.secret(*caller, "block");
  killer.join();
  REQUIRE_FALSE(lost.ok());
  CHECK(lost.error().code == errc::unavailable);
  CHECK(lost.error().message == "session s1 is closed");
  CHECK(f.empty());
  CHECK(f.secret(*caller, "token").error().code == errc::unavailable);
  auto gone = f.sessions->find("s1", milliseconds{0}, {});
  REQUIRE_FALSE(gone.ok());
  CHECK(gone.error().message == "no active session for s1");
}

TEST_CASE("a second session of the same id is refused and the first lives on") {
  session_fixture f;
  auto first = f.connect("s1");
  auto caller = f.caller("s1");
  auto second = f.connect("s1");
  auto refused = second->finish();
  CHECK(refused.error_code() == grpc::StatusCode::ALREADY_EXISTS);
  CHECK(refused.error_message() == "session s1 already exists");
  CHECK(f.secret(*caller, "token").ok());
}

TEST_CASE("a session without an id is refused") {
  session_fixture f;
  auto client = f.connect("");
  CHECK(client->finish().error_code() == grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_CASE("a session whose client answers no health check is ended") {
  session_fixture f;
  f.health.healthy = false;
  auto client = f.connect("s1", {{"x-buildkit-session-health-custom-timeout", "1"}});
  f.caller("s1");
  auto verdict = client->finish();
  CHECK(verdict.error_code() == grpc::StatusCode::UNAVAILABLE);
  CHECK(verdict.error_message().find("session healthcheck failed fatally") != std::string::npos);
  CHECK(f.health.checks == 1);
  CHECK(f.empty());
}

TEST_CASE("looking for a session waits for it to connect") {
  session_fixture f;
  box<bool> found;
  std::thread seeker([&] { found.put(f.sessions->find("later", seconds{10}, {}).ok()); });
  auto client = f.connect("later");
  seeker.join();
  CHECK(found.get() == true);
}

TEST_CASE("looking for a session stops when it is told to") {
  gateway::session_registry registry;
  std::stop_source stop;
  std::thread stopper([&] { stop.request_stop(); });
  auto found = registry.find("never", seconds{60}, stop.get_token());
  stopper.join();
  REQUIRE_FALSE(found.ok());
  CHECK(found.error().code == errc::cancelled);
}

TEST_CASE("forty sessions connect, call and close without leaving anything") {
  session_fixture f;
  std::vector<std::thread> clients;
  std::atomic<int> good{0};
  for (int i = 0; i < 40; ++i)
    clients.emplace_back([&, i] {
      auto id = "s" + std::to_string(i);
      auto client = f.connect(id);
      auto caller = f.caller(id);
      if (f.secret(*caller, "token").ok() && client->close().ok()) ++good;
    });
  for (auto& c : clients) c.join();
  CHECK(good == 40);
  CHECK(f.empty());
}
