// Two and more real nodes in one process: actor systems of their own, connected over TLS on the loopback.
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <condition_variable>
#include <fstream>
#include <mutex>

#include <catch2/catch.hpp>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <spdlog/spdlog.h>

#include "actors/worker/worker.hpp"
#include "node/cluster_setup.hpp"
#include "base/unique_fd.hpp"
#include "messages/actor_error.hpp"
#include "../support/temp_dir.hpp"
#include "basp_bytes.hpp"

using namespace kiln;
using namespace std::chrono_literals;

namespace {

/// A port that was free a moment ago.
std::uint16_t free_port() {
  unique_fd fd{socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof a;
  REQUIRE(bind(fd.get(), reinterpret_cast<sockaddr*>(&a), size) == 0);
  REQUIRE(getsockname(fd.get(), reinterpret_cast<sockaddr*>(&a), &size) == 0);
  return ntohs(a.sin_port);
}

/// What listeners heard; waits for it.
struct news {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::string, peer_worker_actor> up;

  bool wait(const std::function<bool(const std::map<std::string, peer_worker_actor>&)>& until) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, 20s, [&] { return until(up); });
  }
};

members_listener::behavior_type listener(members_listener::pointer, std::shared_ptr<news> heard) {
  return {
      [heard](join_atom, node_info& info, const peer_worker_actor& inbound_worker) {
        std::lock_guard lock(heard->mutex);
        heard->up[info.name] = inbound_worker;
        heard->changed.notify_all();
      },
      [](node_load&, const std::string&) {},
      [heard](leave_atom, const std::string& node) {
        std::lock_guard lock(heard->mutex);
        heard->up.erase(node);
        heard->changed.notify_all();
      },
  };
}

struct node_config : caf::actor_system_config {
  node_config() {
    set("scheduler.policy", caf::atom("sharing"));
    set("scheduler.max-threads", std::size_t{1});
    set("logger.console", caf::atom("none"));
    add_message_types<caf::id_block::kiln>();
  }
};

struct certificates {
  test::temp_dir dir;
  configs::certificate_pair ca = *configs::make_authority("ca", std::time(nullptr) - 60, 1h);
  configs::certificate_pair other = *configs::make_authority("other", std::time(nullptr) - 60, 1h);

  std::string write(const std::string& name, const std::string& text) {
    auto path = (dir.path() / name).string();
    std::ofstream(path) << text;
    return path;
  }
  void put(configs::cluster_config& c, const std::string& node) {
    auto pair = *configs::make_certificate(ca, node, {}, std::time(nullptr) - 60, 1h);
    c.ca = write("ca.pem", ca.cert);
    c.cert = write(node + ".pem", pair.cert);
    c.key = write(node + ".key", pair.key);
  }
};

struct linked_node {
  configs::daemon_config config;
  std::unique_ptr<node::cluster_setup> setup;
  std::unique_ptr<node_config> caf;
  std::unique_ptr<caf::actor_system> system;
  actors::cluster_options options;
  std::shared_ptr<actors::job_pool> io = std::make_shared<actors::job_pool>(1);
  std::shared_ptr<news> heard = std::make_shared<news>();
  caf::actor cluster;
  members_listener ears;
  worker_actor worker;  // what other nodes reach; none

  linked_node(certificates& certs, const std::string& name, std::vector<std::string> seeds,
              const std::function<void(configs::cluster_config&)>& change = {}) {
    auto& c = config.cluster;
    c.name = name;
    c.listen = "127.0.0.1:" + std::to_string(free_port());
    c.seeds = std::move(seeds);
    c.heartbeat_interval_ns = 50'000'000;
    c.dead_after_ns = 1'000'000'000;
    certs.put(c, name);
    if (change) change(c);
    auto made = node::cluster_setup::make(config, "host");
    if (!made.ok()) throw std::runtime_error(made.error().message);
    setup = *std::move(made);
    caf = std::make_unique<node_config>();
    setup->configure(*caf);
    system = std::make_unique<caf::actor_system>(*caf);
    options = setup->options(*system, {});
    options.worker = [this] { return worker; };
    options.io = io;
    start();
  }
  void start() {
    cluster = setup->start(*system, options);
    ears = system->spawn(listener, heard);
    caf::anon_send(caf::actor_cast<cluster_actor>(cluster), join_atom::value, ears);
  }
  ~linked_node() {
    caf::anon_send_exit(cluster, caf::exit_reason::user_shutdown);
    caf::anon_send_exit(ears, caf::exit_reason::user_shutdown);
    if (worker) caf::anon_send_exit(worker, caf::exit_reason::user_shutdown);
    worker = nullptr;
    cluster = nullptr;
    ears = nullptr;
    heard->up.clear();
    system->await_all_actors_done();
    setup->stop();
    options = {};
    system.reset();
  }
  const std::string& address() const { return config.cluster.listen; }
  bool sees(const std::string& other) {
    return heard->wait([&](const auto& up) { return up.contains(other); });
  }
  bool loses(const std::string& other) {
    return heard->wait([&](const auto& up) { return !up.contains(other); });
  }
  cluster_view view() {
    caf::scoped_actor self{*system};
    cluster_view out;
    self->request(caf::actor_cast<cluster_actor>(cluster), 10s, list_atom::value)
        .receive([&](cluster_view& v) { out = std::move(v); }, [](caf::error&) {});
    return out;
  }
};

unique_fd connect_to(const std::string& address) {
  auto where = parse_host_port(address);
  unique_fd fd{socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_port = htons(where->port);
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  REQUIRE(connect(fd.get(), reinterpret_cast<sockaddr*>(&a), sizeof a) == 0);
  return fd;
}

/// Bytes to a port; what comes back is no matter, but it ends.
void throw_at(const std::string& address, const std::string& bytes) {
  auto fd = connect_to(address);
  [[maybe_unused]] auto n = send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  shutdown(fd.get(), SHUT_WR);
  char answer[256];
  while (recv(fd.get(), answer, sizeof answer, 0) > 0) {
  }
}

/// How many bytes a node gives to a client with that certificate, which believes everything.
int given_to(const std::string& address, const std::string& cert, const std::string& key,
             const std::string& says = "") {
  auto fd = connect_to(address);
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context{SSL_CTX_new(TLS_client_method()), SSL_CTX_free};
  if (!cert.empty()) {
    REQUIRE(SSL_CTX_use_certificate_file(context.get(), cert.c_str(), SSL_FILETYPE_PEM) == 1);
    REQUIRE(SSL_CTX_use_PrivateKey_file(context.get(), key.c_str(), SSL_FILETYPE_PEM) == 1);
  }
  std::unique_ptr<SSL, decltype(&SSL_free)> ssl{SSL_new(context.get()), SSL_free};
  SSL_set_fd(ssl.get(), fd.get());
  int got = 0;
  if (SSL_connect(ssl.get()) == 1) {
    if (!says.empty()) SSL_write(ssl.get(), says.data(), static_cast<int>(says.size()));
    char bytes[256];
    got = std::max(0, SSL_read(ssl.get(), bytes, sizeof bytes));
    // Nonsense from one of us ends its connection.
    while (!says.empty() && SSL_read(ssl.get(), bytes, sizeof bytes) > 0) {
    }
  }
  ERR_clear_error();
  return got;
}

/// The reason that dialling `to` gives, with these certificates.
std::string refusal(certificates& certs, const linked_node& to,
                    const std::function<void(configs::cluster_config&)>& change) {
  // Checked at start as well; so a node is started well and its files do not matter any more.
  linked_node stranger(certs, "stranger", {}, change);
  auto dialled = stranger.options.dial(to.address());
  return dialled.ok() ? "" : dialled.error().message;
}

}  // namespace

TEST_CASE("nodes of one CA find each other over TLS, lose who dies, and take back who returns") {
  spdlog::set_level(spdlog::level::off);
  certificates certs;
  linked_node a(certs, "a", {});
  linked_node b(certs, "b", {a.address()});
  CHECK(a.sees("b"));
  CHECK(b.sees("a"));
  {
    linked_node c(certs, "c", {b.address()});
    CHECK(a.sees("c"));
    CHECK(c.sees("a"));
  }
  CHECK(a.loses("c"));
  linked_node c(certs, "c", {b.address()});
  CHECK(a.sees("c"));
  CHECK(c.sees("b"));
}

TEST_CASE("what one node may ask another's worker for at a time is bounded, and what is refused says so") {
  /// Runs until it is told to stop.
  struct endless final : workers::op_handler {
    result<solver::cache_map> cache_map(const workers::op_request&, int, const job_context&) override {
      return solver::cache_map{};
    }
    result<std::vector<store::ref>> run(const workers::op_request&, std::span<const store::ref>,
                                        const job_context& job) override {
      std::mutex m;
      std::unique_lock lock(m);
      std::condition_variable_any never;
      never.wait(lock, job.stop, [] { return false; });
      return make_error(errc::cancelled, "context canceled");
    }
  };
  certificates certs;
  linked_node a(certs, "a", {});
  auto pool = std::make_shared<actors::job_pool>(8);
  actors::worker_options w;
  w.handler = [](const pb::Op&) -> result<std::shared_ptr<workers::op_handler>> {
    return std::shared_ptr<workers::op_handler>(std::make_shared<endless>());
  };
  w.ops = w.io = pool;
  w.jobs_of_node_max = 4;
  a.worker = caf::actor_cast<worker_actor>(a.system->spawn(actors::worker, std::move(w)));
  {
    linked_node b(certs, "b", {a.address()});
    REQUIRE(b.sees("a"));
    auto inbound_worker = b.heard->up.at("a");
    auto progress = b.system->spawn(
        [](progress_actor::pointer, caf::unit_t) -> progress_actor::behavior_type {
          return {[](ctl::StatusResponse&) {}};
        },
        caf::unit);
    caf::scoped_actor self{*b.system};
    run_request r;
    r.op.op.mutable_exec();
    using answer = decltype(self->request(inbound_worker, 20s, r, progress));
    std::vector<answer> running;
    for (int i = 0; i < 4; ++i) running.push_back(self->request(inbound_worker, caf::infinite, r, progress));
    std::string why;
    self->request(inbound_worker, 20s, r, progress)
        .receive([](run_reply&) {}, [&](caf::error& e) { why = from_caf(e).message; });
    CHECK(why == "your node has 4 jobs here already");
    // The node's own are another matter.
    caf::scoped_actor local{*a.system};
    [[maybe_unused]] auto own = local->request(a.worker, caf::infinite, r, progress_actor{});
    local->request(a.worker, 20s, load_count_atom::value)
        .receive([](worker_load& l) { CHECK(l.running == 5); },
                 [](caf::error& e) { FAIL(from_caf(e).message); });
    caf::anon_send_exit(progress, caf::exit_reason::user_shutdown);
  }
  caf::anon_send_exit(a.worker, caf::exit_reason::user_shutdown);
  a.worker = nullptr;
  pool.reset();
}

TEST_CASE("a cluster actor that is started again is found again at its port") {
  certificates certs;
  linked_node a(certs, "a", {});
  linked_node b(certs, "b", {a.address()});
  REQUIRE(a.sees("b"));
  caf::anon_send_exit(a.cluster, caf::exit_reason::kill);
  CHECK(b.loses("a"));
  a.start();
  CHECK(b.sees("a"));
}

TEST_CASE("whoever has no valid certificate gets nothing, and disturbs nobody") {
  certificates certs;
  linked_node a(certs, "a", {});
  linked_node b(certs, "b", {a.address()});
  REQUIRE(a.sees("b"));
  throw_at(a.address(), "GET / HTTP/1.0\r\n\r\n");
  std::string noise(1 << 20, '\0');
  for (std::size_t i = 0; i < noise.size(); ++i) noise[i] = static_cast<char>(i * 2654435761u >> 13);
  throw_at(a.address(), noise);
  throw_at(a.address(), "\x16\x03\x01\xff\xff" + noise);

  auto foreign = refusal(certs, a, [&](configs::cluster_config& c) {
    auto pair = *configs::make_certificate(certs.other, "stranger", {}, std::time(nullptr) - 60, 1h);
    c.ca = certs.write("other.pem", certs.other.cert);
    c.cert = certs.write("foreign.pem", pair.cert);
    c.key = certs.write("foreign.key", pair.key);
  });
  CHECK(foreign.find("its certificate is refused") != std::string::npos);
  auto issue = [&](const configs::certificate_pair& ca, std::chrono::seconds validity) {
    auto from = std::time(nullptr) - (validity.count() > 0 ? 60 : 0);
    auto pair = *configs::make_certificate(ca, "x", {}, from, validity);
    return std::pair{certs.write("x.pem", pair.cert), certs.write("x.key", pair.key)};
  };
  CHECK(given_to(a.address(), "", "") == 0);
  auto [foreign_cert, foreign_key] = issue(certs.other, 1h);
  CHECK(given_to(a.address(), foreign_cert, foreign_key) == 0);
  auto [old_cert, old_key] = issue(certs.ca, -1h);
  CHECK(given_to(a.address(), old_cert, old_key) == 0);
  auto [good_cert, good_key] = issue(certs.ca, 1h);
  CHECK(given_to(a.address(), good_cert, good_key) > 0);
  given_to(a.address(), good_cert, good_key, std::string(4'096, '\x7f'));  // no message of CAF's
  CHECK(a.view().nodes.size() == 2);

  CAPTURE(b.view().nodes.at(1).info.name, b.view().nodes.at(1).reason);
  CHECK(b.view().nodes.at(1).state == "up");
}

TEST_CASE("an expired certificate is told at start") {
  certificates certs;
  CHECK_THROWS_WITH(linked_node(certs, "a", {},
                                [&](configs::cluster_config& c) {
                                  auto pair =
                                      *configs::make_certificate(certs.ca, "a", {}, std::time(nullptr), -1h);
                                  c.cert = certs.write("old.pem", pair.cert);
                                  c.key = certs.write("old.key", pair.key);
                                }),
                    Catch::Contains("expired on "));
}

/// A client with a valid certificate that speaks BASP as it likes.
class hostile {
 public:
  hostile(certificates& certs, const std::string& address, const std::string& name, char node_name = 'X')
      : fd_(connect_to(address)),
        context_(SSL_CTX_new(TLS_client_method()), SSL_CTX_free),
        ssl_(nullptr, SSL_free) {
    auto pair = *configs::make_certificate(certs.ca, name, {}, std::time(nullptr) - 60, 1h);
    auto cert = certs.write(name + "-hostile.pem", pair.cert),
         key = certs.write(name + "-hostile.key", pair.key);
    REQUIRE(SSL_CTX_use_certificate_file(context_.get(), cert.c_str(), SSL_FILETYPE_PEM) == 1);
    REQUIRE(SSL_CTX_use_PrivateKey_file(context_.get(), key.c_str(), SSL_FILETYPE_PEM) == 1);
    ssl_.reset(SSL_new(context_.get()));
    SSL_set_fd(ssl_.get(), fd_.get());
    REQUIRE(SSL_connect(ssl_.get()) == 1);
    auto head = read(32);
    auto payload = read(static_cast<unsigned char>(head[7]) | static_cast<unsigned char>(head[6]) << 8);
    // node, one application, the published actor
    at_ = payload.substr(0, 32);
    auto id = payload.substr(32 + 1 + 1 + std::string_view("generic-caf-app").size(), 8);
    for (unsigned char c : id) published_ = published_ << 8 | c;
    say(test::client_handshake(node_name));
  }
  std::uint64_t published() const { return published_; }
  /// How the node it is connected to is named.
  const std::string& node() const { return at_; }
  void say(const std::string& bytes) {
    for (std::size_t at = 0; at < bytes.size();) {
      int n = SSL_write(ssl_.get(), bytes.data() + at,
                        static_cast<int>(std::min<std::size_t>(bytes.size() - at, 1 << 14)));
      if (n <= 0) break;
      at += static_cast<std::size_t>(n);
    }
    ERR_clear_error();
  }
  /// Reads what there is until the other side hangs up.
  bool is_hung_up_on() {
    timeval patience{20, 0};
    setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    char bytes[4096];
    int n;
    while ((n = SSL_read(ssl_.get(), bytes, sizeof bytes)) > 0) continue;
    bool timed_out = errno == EAGAIN && SSL_get_error(ssl_.get(), n) == SSL_ERROR_SYSCALL;
    ERR_clear_error();
    return !timed_out;
  }

 private:
  std::string read(std::size_t n) {
    std::string out(n, '\0');
    for (std::size_t have = 0; have < n;) {
      int got = SSL_read(ssl_.get(), out.data() + have, static_cast<int>(n - have));
      REQUIRE(got > 0);
      have += static_cast<std::size_t>(got);
    }
    return out;
  }

  unique_fd fd_;
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_;
  std::unique_ptr<SSL, decltype(&SSL_free)> ssl_;
  std::string at_;
  std::uint64_t published_ = 0;
};

TEST_CASE("whoever has a node's certificate and says what no node does is hung up on, and the node lives") {
  certificates certs;
  linked_node a(certs, "a", {});
  linked_node b(certs, "b", {a.address()});
  REQUIRE(a.sees("b"));
  using test::bytes;
  auto to = [&](const std::function<std::string(const hostile&)>& what) {
    hostile h(certs, a.address(), "x");
    h.say(what(h));
    CHECK(h.is_hung_up_on());
  };
  auto beat = bytes().message("+kiln::link_heartbeat").value(*a.system, link_heartbeat{}).str();
  for (std::uint64_t category : {0, 2, 3})
    to([&](const hostile& h) { return test::message(beat, 9, h.published(), category << 60); });
  to([&](const hostile& h) { return test::message(test::nested_messages(200'000), 9, h.published()); });
  to([&](const hostile& h) { return test::message(test::nested(200'000), 9, h.published()); });
  // A link with an actor of the node's own, and an exit: CAF believes both.
  auto own_handle = [](const hostile& h) { return bytes().number(h.published()).raw(h.node()).str(); };
  to([&](const hostile& h) {
    return test::message(
        bytes().message("+@atom+@strong_actor_ptr").atom(caf::atom("link")).raw(own_handle(h)).str(), 9,
        h.published());
  });
  to([&](const hostile& h) {
    return test::message(bytes()
                             .message("+@exit")
                             .raw(own_handle(h))
                             .value(*a.system, caf::error(caf::exit_reason::kill))
                             .str(),
                         9, h.published());
  });
  to([&](const hostile&) {
    std::string head(32, '\0');
    head[0] = 2;
    for (int i = 4; i < 8; ++i) head[static_cast<std::size_t>(i)] = '\xff';
    return head;
  });
  CHECK(a.view().nodes.at(1).state == "up");
  CHECK(b.view().nodes.at(1).state == "up");
}

TEST_CASE("nobody takes over a node's connections with another certificate") {
  certificates certs;
  linked_node a(certs, "a", {});
  linked_node b(certs, "b", {a.address()});
  REQUIRE(a.sees("b"));
  // As CAF names b: host and process are the same, the last byte counts actor systems.
  auto& id = dynamic_cast<const caf::node_id::default_data&>(*b.system->node());
  auto host = id.host_id();
  auto name = test::bytes()
                  .number(static_cast<std::uint64_t>(caf::node_id::default_data::class_id))
                  .number(id.process_id())
                  .raw({reinterpret_cast<const char*>(host.data()), host.size()})
                  .str();
  hostile h(certs, a.address(), "x");
  h.say(test::frame(test::operation::client_handshake, name, 0, 0, 0, 2));
  CHECK(h.is_hung_up_on());
  CHECK(a.view().nodes.at(1).state == "up");
}

TEST_CASE("a node's name is its certificate's") {
  certificates certs;
  linked_node a(certs, "a", {});
  // At its own start.
  CHECK_THROWS_WITH(
      linked_node(certs, "b", {a.address()}, [&](configs::cluster_config& c) { certs.put(c, "c"); }),
      Catch::Contains("is for c, not for node b"));
  // And by the others: one that lies about its name is refused, on both sides.
  linked_node liar(certs, "liar", {});
  caf::anon_send_exit(liar.cluster, caf::exit_reason::user_shutdown);
  liar.options.self.name = "b";
  liar.options.seeds = {a.address()};
  liar.start();
  auto refused = [&](linked_node& n) {
    for (int i = 0; i < 400; ++i) {
      for (const auto& seen : n.view().nodes)
        if (seen.state == "refused" && seen.reason.find("is for liar, not for node b") != std::string::npos)
          return true;
      std::this_thread::sleep_for(50ms);
    }
    return false;
  };
  CHECK(refused(liar));
  CHECK(refused(a));
  CHECK_FALSE(a.heard->up.contains("b"));
}

TEST_CASE("those who connect and say nothing keep nobody out") {
  certificates certs;
  linked_node a(certs, "a", {});
  std::vector<unique_fd> silent;
  for (int i = 0; i < 300; ++i) silent.push_back(connect_to(a.address()));
  linked_node b(certs, "b", {a.address()});
  CHECK(a.sees("b"));
  CHECK(b.sees("a"));
}
