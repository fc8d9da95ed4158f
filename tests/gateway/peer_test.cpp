// Refs of other nodes: what arrives, what is refused, what is lost.
#include <catch2/catch.hpp>

#include <grpcpp/grpcpp.h>

#include <array>
#include <condition_variable>
#include <cstdlib>
#include <thread>

#include "content.grpc.pb.h"
#include "kiln_peer.grpc.pb.h"
#include "peer_nodes.hpp"
#include "solver/error_details.hpp"
#include "store/hashing/content_hash.hpp"

using namespace kiln;
using namespace kiln::testing;
namespace peer_api = kiln::v1;
namespace content_api = containerd::services::content::v1;

namespace {

/// How a fake answers: may become another while calls are served, which go on with what they began with.
template <class Request, class Response>
class answer {
 public:
  using function =
      std::function<grpc::Status(grpc::ServerContext*, const Request&, grpc::ServerWriter<Response>&)>;
  answer& operator=(function how) {
    std::lock_guard lock(mutex_);
    how_ = std::move(how);
    return *this;
  }
  function how() const {
    std::lock_guard lock(mutex_);
    return how_;
  }

 private:
  mutable std::mutex mutex_;
  function how_;
};

/// A peer that misbehaves: what it describes and how it sends blobs is the test's.
struct fake_peer {
  struct peer_impl final : peer_api::Peer::Service {
    fake_peer* self;
    grpc::Status DescribeRef(grpc::ServerContext* context, const peer_api::DescribeRefRequest* q,
                             grpc::ServerWriter<peer_api::DescribeRefResponse>* out) override {
      return self->describe.how()(context, *q, *out);
    }
  } peer;
  struct content_impl final : content_api::Content::Service {
    fake_peer* self;
    grpc::Status Read(grpc::ServerContext* context, const content_api::ReadContentRequest* q,
                      grpc::ServerWriter<content_api::ReadContentResponse>* out) override {
      return self->read.how()(context, *q, *out);
    }
  } content;
  answer<peer_api::DescribeRefRequest, peer_api::DescribeRefResponse> describe;
  answer<content_api::ReadContentRequest, content_api::ReadContentResponse> read;
  std::unique_ptr<grpc::Server> server;
  int port = 0;
  std::string blob;

  /// Describes one layer, `blob`, which it sends whole.
  explicit fake_peer(std::string bytes) : blob(std::move(bytes)) {
    peer.self = content.self = this;
    describe = [this](auto*, const auto&, auto& out) {
      peer_api::DescribeRefResponse r;
      auto& layer = *r.mutable_result()->add_layers();
      layer.set_origin("made-there");
      auto& b = *layer.mutable_transport();
      b.set_media_type("application/vnd.oci.image.layer.v1.tar");
      b.set_digest(sha256(blob).str());
      b.set_diff_id(sha256(blob).str());
      b.set_size(static_cast<std::int64_t>(blob.size()));
      out.Write(r);
      return grpc::Status::OK;
    };
    read = [this](auto*, const auto& q, auto& out) {
      send(out, blob.substr(static_cast<std::size_t>(q.offset())));
      return grpc::Status::OK;
    };
    grpc::SslServerCredentialsOptions ssl;
    ssl.pem_key_cert_pairs.push_back({certs().text("node.key"), certs().text("node.pem")});
    ssl.pem_root_certs = certs().text("ca.pem");
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::SslServerCredentials(ssl), &port);
    builder.RegisterService(&peer);
    builder.RegisterService(&content);
    server = builder.BuildAndStart();
  }
  ~fake_peer() { server->Shutdown(std::chrono::system_clock::now()); }
  static void send(grpc::ServerWriter<content_api::ReadContentResponse>& out, std::string_view bytes) {
    for (std::size_t at = 0; at < bytes.size(); at += 1000) {
      content_api::ReadContentResponse r;
      r.set_data(std::string(bytes.substr(at, 1000)));
      out.Write(r);
    }
  }
  std::string address() const { return "127.0.0.1:" + std::to_string(port); }
};

std::string some_tar() { return tar_builder().file("f", std::string(50'000, 'x')).text(); }

/// A node `b` whose only peer is the fake `x`.
struct against_fake {
  explicit against_fake(std::string bytes = some_tar()) : fake(std::move(bytes)) {
    b.peers->put("x", fake.address());
  }
  fake_peer fake;
  node b{"b"};
  gateway::peer_refs refs{*b.store, b.peers, {.idle_timeout = 20s, .attempts_max = 3, .retry_pause = 1ms}};

  status use() { return use(refs); }
  status use(gateway::peer_refs& by) {
    KILN_TRY(auto r, by.fetch("x!1", {}));
    return b.store->files().materialize(r, {});
  }
  bool kept_nothing() const {
    if (!b.store->blobs().list().empty()) return false;
    return fs::is_empty(b.root.path() / "blobs/ingest");
  }
};

void check_lost(const status& s, const std::string& id, const std::string& why) {
  REQUIRE_FALSE(s.ok());
  CHECK(s.error().code == errc::data_loss);
  CHECK(solver::lost_ref_of(s.error()) == id);
  CHECK_THAT(s.error().message, Catch::Contains(why));
}

}  // namespace

TEST_CASE("a ref of another node arrives lazily, whole, and the second use is free") {
  two_nodes n;
  auto base = layer_of(*n.a.store, {}, {{"a", "1"}, {"gone", "2"}});
  auto top = layer_of(*n.a.store, layer_of(*n.a.store, base, {}), {{"b", "3"}, {"gone", nullptr}},
                      {.description = "RUN x", .type = store::record_type::source_local});
  auto got = n.bring(top);
  CHECK(n.b.peers->traffic().in == 0);
  CHECK(listing(*n.b.store, got) == listing(*n.a.store, top));
  CHECK(must(store::content_checksum(*n.b.store, got, {}, {})) ==
        must(store::content_checksum(*n.a.store, top, {}, {})));
  CHECK(got.options().description == "RUN x");
  CHECK(got.options().type == store::record_type::source_local);
  auto theirs = must(n.a.store->layers().of(top, {})), ours = must(n.b.store->layers().of(got, {}));
  REQUIRE(ours.size() == 3);
  for (std::size_t i = 0; i < ours.size(); ++i)
    CHECK(tar_of(*n.b.store, ours[i].id) == tar_of(*n.a.store, theirs[i].id));
  auto moved = n.b.peers->traffic().in.load();
  CHECK(moved > 0);
  CHECK(n.a.peers->traffic().out == moved);
  CHECK(n.bring(top).id() == got.id());
  CHECK(n.b.peers->traffic().in == moved);
  // Back on the node that made it, it is what it was; scratch is everywhere.
  CHECK(must(n.a.refs->fetch("b!" + got.id(), {})).id() == top.id());
  CHECK(n.a.peers->traffic().in == 0);
  CHECK_FALSE(must(n.b.refs->fetch("", {})));
}

TEST_CASE("merges and differences arrive as on the node that has them") {
  two_nodes n;
  auto& s = *n.a.store;
  auto x = layer_of(s, {}, {{"d/x", "1"}, {"d/y", "2"}});
  auto y = layer_of(s, x, {{"d/x", nullptr}, {"e", "3"}});
  auto z = layer_of(s, {}, {{"d/x", "other"}, {"z", "4"}});
  std::vector<store::ref> both{z, y};
  for (auto r : {must(s.merge(both, {})), must(s.diff(x, y, {})), must(s.diff(z, y, {}))}) {
    auto got = n.bring(r);
    CHECK(listing(*n.b.store, got) == listing(s, r));
    CHECK(must(store::content_checksum(*n.b.store, got, {}, {})) ==
          must(store::content_checksum(s, r, {}, {})));
  }
}

TEST_CASE("a layer of a registry is fetched by the node that knows the registry when a peer wants it") {
  two_nodes n;
  auto registry = std::make_shared<memory_provider>();
  auto blob = registry->add(tar_builder().file("f", "text").text());
  auto r = must(n.a.store->layer({}, blob, registry, {}));
  auto got = n.bring(r);
  CHECK(must(n.b.store->layers().of(got, {}))[0].blobs[0].blob == blob.blob);
  CHECK(registry->fetched == 0);
  CHECK(listing(*n.b.store, got).at("f") == "text");
  CHECK(registry->fetched == 1);
}

TEST_CASE("two jobs that need the same ref move its bytes once") {
  two_nodes n;
  std::string text(3 << 20, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 2654435761u >> 13);
  auto s = begin(*n.a.store, {});
  write(s.path() / "big", text);
  auto r = end(*n.a.store, std::move(s));
  std::array<store::ref, 2> got;
  {
    std::vector<std::jthread> jobs;
    for (auto& slot : got)
      jobs.emplace_back([&] {
        auto fetched = n.b.refs->fetch("a!" + r.id(), {});
        if (fetched.ok() && n.b.store->files().materialize(*fetched, {}).ok()) slot = *fetched;
      });
  }
  REQUIRE(got[0]);
  REQUIRE(got[1]);
  CHECK(got[0].id() == got[1].id());
  CHECK(n.b.peers->traffic().in == must(n.a.store->peers().export_to_peer(r, {}))[0].transport->blob.size);
}

TEST_CASE("a ref that its node does not have, or whose node is unknown or gone, is lost") {
  two_nodes n;
  auto lost = [&](const std::string& id, const std::string& why) {
    auto r = n.b.refs->fetch(id, {});
    check_lost(r.ok() ? status{} : status(r.error()), id, why);
  };
  lost("a!nothing", "not found");
  lost("c!1", "node c is not in the cluster");
  lost("b!1", "not found");
  auto r = layer_of(*n.a.store, {}, {{"f", "x"}});
  auto lazy = n.bring(r);
  n.a.server->shutdown();
  lost("a!" + layer_of(*n.a.store, {}, {}).id(), "lost");
  check_lost(n.b.store->files().materialize(lazy, {}), "a!" + r.id(), "lost");
  n.b.peers->erase("a");
  lost("a!" + r.id(), "not in the cluster");
}

TEST_CASE("a node that others see before this one does is waited for, one that has gone is not") {
  node a("a"), b("b");
  gateway::peer_refs patient(*b.store, b.peers, {.idle_timeout = 10s, .retry_pause = 1ms, .join_time = 1min});
  auto r = layer_of(*a.store, {}, {{"f", "x"}});
  result<store::ref> got = store::ref{};
  {
    std::jthread asks([&] { got = patient.fetch("a!" + r.id(), {}); });
    b.know(a);  // before it asks, or after
  }
  REQUIRE(got.ok());
  CHECK(listing(*b.store, *got) == listing(*a.store, r));
  b.peers->erase("a");
  auto gone = patient.fetch("a!1", {});  // not for a minute
  check_lost(gone.ok() ? status{} : status(gone.error()), "a!1", "not in the cluster");
  std::stop_source stop;
  job_context job;
  job.stop = stop.get_token();
  stop.request_stop();
  CHECK_FALSE(patient.fetch("c!1", job).ok());
}

TEST_CASE("a blob whose stream breaks is resumed where it broke") {
  against_fake f;
  std::vector<std::int64_t> offsets;
  f.fake.read = [&](auto*, const auto& q, auto& out) -> grpc::Status {
    offsets.push_back(q.offset());
    auto rest = f.fake.blob.substr(static_cast<std::size_t>(q.offset()));
    if (offsets.size() < 6) {  // more often than attempts are allowed: each one moves something
      fake_peer::send(out, rest.substr(0, 9'000));
      return {grpc::StatusCode::UNAVAILABLE, "broken"};
    }
    fake_peer::send(out, rest);
    return grpc::Status::OK;
  };
  must(f.use());
  CHECK(offsets == std::vector<std::int64_t>{0, 9'000, 18'000, 27'000, 36'000, 45'000});
}

TEST_CASE("attempts that bring nothing are bounded") {
  against_fake f;
  std::atomic<int> asked{0};
  f.fake.read = [&](auto*, const auto&, auto&) -> grpc::Status {
    ++asked;
    return {grpc::StatusCode::UNAVAILABLE, "not today"};
  };
  check_lost(f.use(), "x!1", "not today");
  CHECK(asked == 3);
}

TEST_CASE("a blob with wrong bytes, or more of them, is refused and nothing of it is kept") {
  against_fake f;
  auto honest = f.fake.read.how();
  f.fake.read = [&](auto*, const auto&, auto& out) {
    auto other = f.fake.blob;
    other[600] ^= 1;
    fake_peer::send(out, other);
    return grpc::Status::OK;
  };
  check_lost(f.use(), "x!1", "node x sent a wrong blob");
  CHECK(f.kept_nothing());
  f.fake.read = [&](auto*, const auto&, auto& out) {
    fake_peer::send(out, f.fake.blob + "more");
    return grpc::Status::OK;
  };
  check_lost(f.use(), "x!1", "node x sent more than");
  CHECK(f.kept_nothing());
  f.fake.read = honest;
  must(f.use());
}

TEST_CASE("a description that makes no sense is refused") {
  against_fake f;
  auto answer = [&](std::function<void(peer_api::RefDescription&)> fill) {
    f.fake.describe = [fill](auto*, const auto&, auto& out) {
      peer_api::DescribeRefResponse r;
      fill(*r.mutable_result());
      out.Write(r);
      return grpc::Status::OK;
    };
  };
  answer([](auto& d) { d.add_layers(); });
  check_lost(f.use(), "x!1", "makes no sense");
  answer([](auto& d) { d.add_layers()->mutable_transport()->set_digest("sha256:../../etc/passwd"); });
  check_lost(f.use(), "x!1", "makes no sense");
  answer([](auto& d) {
    auto& b = *d.add_layers()->mutable_transport();
    b.set_digest(sha256("x").str());
    b.set_diff_id(sha256("x").str());
    b.set_size(-1);
  });
  check_lost(f.use(), "x!1", "makes no sense");
  answer([](auto& d) {
    for (int i = 0; i < 10'001; ++i) d.add_layers();
  });
  check_lost(f.use(), "x!1", "10001 layers");
  CHECK(f.kept_nothing());
}

TEST_CASE("a frozen peer is given up after the idle time, and a cancelled job at once") {
  against_fake f;
  gateway::peer_refs impatient{*f.b.store, f.b.peers, {.idle_timeout = 200ms}};
  auto freeze = [](grpc::ServerContext* context) {
    std::mutex m;
    std::condition_variable c;
    std::unique_lock lock(m);
    while (!context->IsCancelled()) c.wait_for(lock, 5ms);
    return grpc::Status::CANCELLED;
  };
  auto describe = f.fake.describe.how();
  f.fake.describe = [&](auto* context, const auto&, auto&) { return freeze(context); };
  check_lost(f.use(impatient), "x!1", "has sent nothing for 200 ms");
  f.fake.describe = describe;
  std::stop_source stop;
  std::atomic<bool> cancel{false};
  f.fake.read = [&](auto* context, const auto&, auto& out) {
    fake_peer::send(out, f.fake.blob.substr(0, 10'000));
    if (cancel) stop.request_stop();
    return freeze(context);
  };
  check_lost(f.use(impatient), "x!1", "has sent nothing for 200 ms");
  cancel = true;
  gateway::peer_refs patient{*f.b.store, f.b.peers, {.idle_timeout = 60s}};
  job_context job;
  job.stop = stop.get_token();
  auto r = must(patient.fetch("x!2", {}));
  auto s = f.b.store->files().materialize(r, job);
  REQUIRE_FALSE(s.ok());
  CHECK(s.error().code == errc::cancelled);
}

TEST_CASE("a node that leaves the cluster ends what is under way with it") {
  against_fake f;
  f.fake.read = [&](auto* context, const auto&, auto& out) {
    fake_peer::send(out, f.fake.blob.substr(0, 10'000));
    f.b.peers->erase("x");
    while (!context->IsCancelled()) std::this_thread::yield();
    return grpc::Status::CANCELLED;
  };
  gateway::peer_refs patient{*f.b.store, f.b.peers, {.idle_timeout = 60s, .retry_pause = 1ms}};
  auto r = must(patient.fetch("x!1", {}));
  check_lost(f.b.store->files().materialize(r, {}), "x!1", "not in the cluster");
}

TEST_CASE("nodes without a valid certificate of the authority get nothing, and give nothing") {
  node a("a");
  auto r = layer_of(*a.store, {}, {{"f", "x"}});
  auto ask = [&](const std::string& who) {
    temporary_root root;
    auto store = open_store(root);
    auto peers = must(gateway::peer_directory::make("b", certs().files(who)));
    peers->put("a", a.server->address());
    gateway::peer_refs refs(*store, peers, {.idle_timeout = 10s, .attempts_max = 2, .retry_pause = 1ms});
    return refs.fetch("a!" + r.id(), {}).ok();
  };
  CHECK(ask("node"));
  CHECK_FALSE(ask("stranger"));
  CHECK_FALSE(ask("expired"));
  CHECK(ask("other_node"));
  // Without any certificate.
  grpc::SslCredentialsOptions bare;
  bare.pem_root_certs = certs().text("ca.pem");
  for (auto credentials : {grpc::SslCredentials(bare), grpc::InsecureChannelCredentials()}) {
    grpc::ClientContext context;
    peer_api::SessionInfoResponse answer;
    auto channel = grpc::CreateChannel(a.server->address(), credentials);
    CHECK(peer_api::Peer::NewStub(channel)->SessionInfo(&context, {}, &answer).error_code() ==
          grpc::StatusCode::UNAVAILABLE);
  }
  // Nor is a server believed.
  for (const char* who : {"stranger", "expired", "other_node", "nameless"}) {
    auto server = must(gateway::peer_server::start({"127.0.0.1:0", certs().files(who)},
                                                   {a.store.get(), &a.sessions, a.grants, nullptr}));
    auto peers = must(gateway::peer_directory::make("b", certs().files("node")));
    peers->put("a", server->address());
    gateway::peer_refs refs(*a.store, peers, {.idle_timeout = 10s, .attempts_max = 2, .retry_pause = 1ms});
    CHECK_FALSE(refs.fetch("a!" + r.id(), {}).ok());
  }
  // And a node starts with all it needs, or not at all.
  for (auto files :
       {gateway::tls_files{}, gateway::tls_files{certs().path("node.pem"), certs().path("node.key"), ""},
        gateway::tls_files{"/nonexistent", "/nonexistent", "/nonexistent"}}) {
    CHECK(gateway::peer_directory::make("x", files).error().code == errc::invalid_argument);
    CHECK(gateway::peer_server::start({"127.0.0.1:0", files}, {a.store.get(), &a.sessions, a.grants, nullptr})
              .error()
              .code == errc::invalid_argument);
  }
}

TEST_CASE("how fast a large ref moves", "[.measure]") {
  two_nodes n;
  const char* from = std::getenv("KILN_MEASURE_TREE");  // a directory of some 400 MB
  auto s = begin(*n.a.store, {});
  REQUIRE(std::system(("cp -a " + std::string(from ? from : "/usr/lib") + " " + (s.path() / "tree").string())
                          .c_str()) == 0);
  auto r = end(*n.a.store, std::move(s));
  std::int64_t bytes = 0;
  auto mount = mount_of(*n.a.store, r);
  for (const auto& e : fs::recursive_directory_iterator(mount.path()))
    if (!e.is_symlink() && e.is_regular_file()) bytes += static_cast<std::int64_t>(e.file_size());
  auto now = [] { return std::chrono::steady_clock::now(); };
  auto seconds = [](auto d) { return std::chrono::duration<double>(d).count(); };
  auto t0 = now();
  auto got = n.bring(r);  // packed
  auto t1 = now();
  auto layers = must(n.a.store->peers().export_to_peer(r, {}));
  // The way alone, then the rest.
  store::ref again = must(n.b.refs->fetch("a!" + r.id(), {}));
  must(n.b.store->files().materialize(again, {}));
  auto t2 = now();
  double mb = static_cast<double>(bytes) / 1e6;
  WARN(mb << " MB in files, " << static_cast<double>(layers[0].transport->blob.size) / 1e6
          << " MB moved; packed in " << seconds(t1 - t0) << " s, moved and unpacked in " << seconds(t2 - t1)
          << " s: " << mb / seconds(t2 - t0) << " MB/s in all");
  CHECK(n.b.peers->traffic().in == layers[0].transport->blob.size);
}
