#include "apps/cluster_setup.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <set>
#include <thread>

#include <caf/io/basp_broker.hpp>
#include <caf/io/middleman.hpp>
#include <caf/openssl/all.hpp>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <spdlog/spdlog.h>

#include "configs/version.hpp"
#include "messages/actor_error.hpp"

namespace kiln::apps {

namespace {

namespace cfg = configs::cluster;
using clock = std::chrono::steady_clock;

using addresses_ptr = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

result<addresses_ptr> look_up(const host_port& where, int flags) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* found = nullptr;
  int e = getaddrinfo(where.host.c_str(), std::to_string(where.port).c_str(), &hints, &found);
  if (e != 0)
    return make_error(errc::unavailable, where.host + ": " + (e == EAI_SYSTEM ? strerror(errno) : gai_strerror(e)));
  return addresses_ptr{found, freeaddrinfo};
}

std::string numeric_host(const addrinfo& a) {
  char host[NI_MAXHOST] = {};
  if (getnameinfo(a.ai_addr, a.ai_addrlen, host, sizeof host, nullptr, 0, NI_NUMERICHOST) != 0) return "";
  return host;
}

/// A file in memory, and the path it can be opened by.
result<unique_fd> memory_file(const char* name, std::string_view text) {
  unique_fd fd{memfd_create(name, MFD_CLOEXEC)};
  if (!fd || write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size()))
    return errno_error(errno, std::string("keeping ") + name);
  return fd;
}
std::string path_of(const unique_fd& fd) { return "/proc/self/fd/" + std::to_string(fd.get()); }

/// Whether the address can be listened at, so that a mistake is told before anything starts.
status check_listen(const host_port& where) {
  KILN_TRY(auto addresses, look_up(where, AI_PASSIVE));
  unique_fd fd{socket(addresses->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (bind(fd.get(), addresses->ai_addr, addresses->ai_addrlen) != 0)
    return errno_error(errno, "cluster listen address " + join_host_port(where.host, where.port));
  return {};
}

/// Waits until the socket can be read or written; false when the time is over.
bool wait_for(int fd, short events, clock::time_point deadline) {
  for (;;) {
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - clock::now()).count();
    if (left <= 0) return false;
    pollfd p{fd, events, 0};
    int n = poll(&p, 1, static_cast<int>(left));
    if (n > 0) return true;
    if (n < 0 && errno != EINTR) return false;
  }
}

error timed_out() { return make_error(errc::deadline_exceeded, "it does not answer"); }

result<unique_fd> connect_by(const addrinfo& a, clock::time_point deadline) {
  unique_fd fd{socket(a.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!fd) return errno_error(errno, "socket");
  if (connect(fd.get(), a.ai_addr, a.ai_addrlen) != 0 && errno != EINPROGRESS)
    return make_error(errc::unavailable, strerror(errno));
  if (!wait_for(fd.get(), POLLOUT, deadline)) return timed_out();
  int failed = 0;
  socklen_t size = sizeof failed;
  getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &failed, &size);
  if (failed != 0) return make_error(errc::unavailable, strerror(failed));
  return fd;
}

/// Port and numeric host of one end of a socket; port 0 when it is no such socket.
std::pair<std::string, std::uint16_t> end_of(int fd, int (*name_of)(int, sockaddr*, socklen_t*)) {
  sockaddr_storage a{};
  socklen_t size = sizeof a;
  char host[NI_MAXHOST] = {}, port[NI_MAXSERV] = {};
  if (name_of(fd, reinterpret_cast<sockaddr*>(&a), &size) != 0) return {"", 0};
  if (a.ss_family != AF_INET && a.ss_family != AF_INET6) return {"", 0};
  if (getnameinfo(reinterpret_cast<sockaddr*>(&a), size, host, sizeof host, port, sizeof port,
                  NI_NUMERICHOST | NI_NUMERICSERV) != 0)
    return {"", 0};
  return {host, static_cast<std::uint16_t>(std::atoi(port))};
}

/// Lets the kernel end a connection of ours whose other end is silent for `limit`: CAF keeps its sockets to itself
/// and waits for ever. Connections that come in inherit it from the listening socket.
void limit_waiting(const std::function<bool(int fd)>& is_meant, std::chrono::milliseconds limit) {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", ignored)) {
    int fd = std::atoi(entry.path().filename().c_str());
    if (!is_meant(fd)) continue;
    int on = 1;
    auto seconds = static_cast<int>(std::max<std::int64_t>(1, limit.count() / 1000));
    auto milliseconds = static_cast<unsigned>(limit.count());
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof seconds);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof seconds);
    setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &milliseconds, sizeof milliseconds);
  }
}

bool is_listening(int fd) {
  int listening = 0;
  socklen_t size = sizeof listening;
  return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 && listening;
}

struct ssl_free {
  void operator()(SSL* s) const noexcept { SSL_free(s); }
  void operator()(SSL_CTX* c) const noexcept { SSL_CTX_free(c); }
};

std::string ssl_reason(const SSL* ssl) {
  if (long verified = SSL_get_verify_result(ssl); verified != X509_V_OK)
    return std::string("its certificate is refused: ") + X509_verify_cert_error_string(verified);
  auto code = ERR_get_error();
  ERR_clear_error();
  auto* reason = code ? ERR_reason_error_string(code) : nullptr;
  if (!reason) return "it closed the connection";
  std::string text = reason;
  // An alert is what the other side said of us.
  if (text.find("alert") != std::string::npos) return "it refuses this node's certificate: " + text;
  return "TLS: " + text;
}

}  // namespace

/// Looks at a node before CAF does: everything that CAF would wait for without a limit has one here, and what
/// is wrong with certificates gets its words.
struct cluster_setup::probe_context {
  std::unique_ptr<SSL_CTX, ssl_free> context;

  static result<std::unique_ptr<probe_context>> make(const unique_fd& ca, const unique_fd& cert, const unique_fd& key) {
    auto out = std::make_unique<probe_context>();
    out->context.reset(SSL_CTX_new(TLS_client_method()));
    auto* c = out->context.get();
    bool good = c && SSL_CTX_load_verify_locations(c, path_of(ca).c_str(), nullptr) == 1 &&
                SSL_CTX_use_certificate_chain_file(c, path_of(cert).c_str()) == 1 &&
                SSL_CTX_use_PrivateKey_file(c, path_of(key).c_str(), SSL_FILETYPE_PEM) == 1;
    if (!good) {
      ERR_clear_error();
      return make_error(errc::invalid_argument, "TLS cannot use the cluster's certificates");
    }
    SSL_CTX_set_verify(c, SSL_VERIFY_PEER, nullptr);
    return out;
  }

  /// Connects, shakes hands, and waits for the first word, which nodes say unasked.
  status greet(const addrinfo& a, clock::time_point deadline) const {
    KILN_TRY(auto fd, connect_by(a, deadline));
    std::unique_ptr<SSL, ssl_free> ssl{SSL_new(context.get())};
    if (!ssl || SSL_set_fd(ssl.get(), fd.get()) != 1) return make_error(errc::internal, "TLS: no connection object");
    SSL_set_connect_state(ssl.get());
    ERR_clear_error();
    for (;;) {
      char word = 0;
      int n = SSL_read(ssl.get(), &word, 1);  // shakes hands first
      if (n > 0) return {};
      int why = SSL_get_error(ssl.get(), n);
      if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
        return make_error(errc::failed_precondition, ssl_reason(ssl.get()));
      if (!wait_for(fd.get(), why == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, deadline)) return timed_out();
    }
  }
};

cluster_setup::~cluster_setup() { stop(); }

result<std::unique_ptr<cluster_setup>> cluster_setup::make(const configs::daemon_config& config,
                                                           const std::string& host) {
  const auto& c = config.cluster;
  std::unique_ptr<cluster_setup> s{new cluster_setup()};
  s->config_ = c;
  s->info_.name = c.name.empty() ? host : c.name;
  if (!is_node_name(s->info_.name))
    return make_error(errc::invalid_argument, "the host name \"" + host + "\" cannot name a node: say how by cluster name");
  auto listen = parse_host_port(c.listen);
  auto role = parse_node_role(c.role);
  if (!listen || !role) return make_error(errc::invalid_argument, "cluster listen address or role: not validated");
  s->listen_ = *listen;
  auto data_port = static_cast<std::uint16_t>(c.data_port == 0 ? listen->port + 1 : c.data_port);
  auto reached = c.advertise.empty() ? listen->host : c.advertise;
  s->data_listen_ = join_host_port(listen->host, data_port);
  s->info_.control_address = join_host_port(reached, listen->port);
  s->info_.data_address = join_host_port(reached, data_port);
  std::random_device random;
  s->info_.instance = (std::uint64_t{random()} << 32) | random();
  s->info_.version = configs::version;
  s->info_.role = *role;
  int cores = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  s->info_.slots = std::clamp(c.slots > 0 ? c.slots : config.oci.max_parallelism > 0 ? config.oci.max_parallelism : 2 * cores,
                              1, cfg::slots_max);
  s->files_ = {c.ca, c.cert, c.key};
  KILN_TRY(s->certificates_, configs::load_certificates(s->files_, std::time(nullptr)));
  KILN_TRY(s->ca_copy_, memory_file("cluster-ca", s->certificates_.ca));
  KILN_TRY(s->cert_copy_, memory_file("cluster-cert", s->certificates_.cert));
  KILN_TRY(s->key_copy_, memory_file("cluster-key", s->certificates_.key));
  KILN_TRY(s->probe_, probe_context::make(s->ca_copy_, s->cert_copy_, s->key_copy_));
  KILN_CHECK(check_listen(s->listen_));
  s->dials_ = std::make_shared<actors::job_pool>(cfg::dial_threads);
  return s;
}

void cluster_setup::configure(caf::actor_system_config& config) const {
  config.add_message_types<caf::id_block::kiln_cluster>();
  config.load<caf::io::middleman>();
  config.load<caf::openssl::manager>();
  config.openssl_certificate = path_of(cert_copy_);
  config.openssl_key = path_of(key_copy_);
  config.openssl_cafile = path_of(ca_copy_);
  // Not CAF's heartbeats: with those on, 0.17.6 drops established connections when a new one comes in. Our own
  // beats end links, and the kernel ends connections on which nothing is acknowledged (limit_waiting).
  config.set("middleman.heartbeat-interval", caf::timespan{0});
}

actors::cluster_options cluster_setup::options(caf::actor_system& system, types::WorkerRecord record) {
  actors::cluster_options o;
  o.self = info_;
  o.self.record = std::move(record);
  o.seeds = config_.seeds;
  o.dial = [this, &system](const std::string& address) { return dial(system, address); };
  o.resolve = resolve_seed;
  std::random_device random;
  o.seed = (std::uint64_t{random()} << 32) | random();
  o.beat_interval = std::chrono::nanoseconds{config_.beat_interval_ns};
  o.dead_after = std::chrono::nanoseconds{config_.dead_after_ns};
  o.peer_answer_time = std::chrono::nanoseconds{config_.peer_answer_time_ns};
  o.drain_grace = std::chrono::nanoseconds{config_.drain_grace_ns};
  o.dials = dials_;
  return o;
}

caf::expected<caf::actor> cluster_setup::start(caf::actor_system& system, const actors::cluster_options& options) {
  auto manager = system.openssl_manager().actor_handle();
  caf::scoped_actor self{system};
  // The port still belongs to the actor before, which is gone. Its owner is asked itself: the manager passes
  // this on without waiting.
  if (published_)
    self->request(system.middleman().named_broker<caf::io::basp_broker>(caf::atom("BASP")), caf::infinite,
                  caf::unpublish_atom::value, published_, listen_.port)
        .receive([] {}, [](const caf::error&) {});
  auto spawned = system.spawn(actors::cluster, options);
  published_ = spawned.address();
  caf::expected<caf::actor> out = caf::actor_cast<caf::actor>(spawned);
  self->request(manager, caf::infinite, caf::publish_atom::value, listen_.port,
                caf::actor_cast<caf::strong_actor_ptr>(spawned), std::set<std::string>{}, listen_.host, true)
      .receive([](std::uint16_t) {},
               [&](caf::error& e) {
                 caf::anon_send_exit(spawned, caf::exit_reason::user_shutdown);
                 out = to_caf(make_error(errc::unavailable, "listening at " + join_host_port(listen_.host, listen_.port) +
                                                                ": " + system.render(e)));
               });
  limit_waiting([&](int fd) { return is_listening(fd) && end_of(fd, getsockname).second == listen_.port; },
                silence_limit());
  return out;
}

std::chrono::milliseconds cluster_setup::silence_limit() const {
  return std::chrono::milliseconds{cfg::connection_dead_factor * config_.dead_after_ns / 1'000'000};
}

void cluster_setup::stop() {
  stopping_->store(true);
  dials_.reset();
}

result<cluster_actor> cluster_setup::dial(caf::actor_system& system, const std::string& address) const {
  if (stopping_->load()) return make_error(errc::cancelled, "shutting down");
  auto where = parse_host_port(address);
  if (!where) return make_error(errc::invalid_argument, address + " is no host:port");
  auto deadline = clock::now() + cfg::dial_time;
  KILN_TRY(auto addresses, look_up(*where, 0));
  error why = make_error(errc::unavailable, "no address");
  for (auto* a = addresses.get(); a; a = a->ai_next) {
    if (auto greeted = probe_->greet(*a, deadline); !greeted.ok()) {
      why = std::move(greeted).error();
      continue;
    }
    if (stopping_->load()) break;
    caf::scoped_actor self{system};
    result<cluster_actor> out = timed_out();
    self->request(system.openssl_manager().actor_handle(), std::chrono::milliseconds(cfg::dial_time),
                  caf::connect_atom::value, numeric_host(*a), where->port)
        .receive(
            [&](const caf::node_id&, const caf::strong_actor_ptr& handle, const std::set<std::string>&) {
              if (handle) {
                out = caf::actor_cast<cluster_actor>(handle);
              } else {
                out = make_error(errc::unavailable, "nobody listens there");
              }
            },
            [&](const caf::error& e) { out = make_error(errc::unavailable, system.render(e)); });
    limit_waiting([&](int fd) { return end_of(fd, getpeername) == std::pair{numeric_host(*a), where->port}; },
                  silence_limit());
    return out;
  }
  return why;
}

result<std::vector<std::string>> resolve_seed(const std::string& seed) {
  auto where = parse_host_port(seed);
  if (!where) return make_error(errc::invalid_argument, seed + " is no host:port");
  KILN_TRY(auto addresses, look_up(*where, 0));
  std::set<std::string> out;
  for (auto* a = addresses.get(); a; a = a->ai_next)
    if (auto host = numeric_host(*a); !host.empty()) out.insert(join_host_port(host, where->port));
  return std::vector<std::string>(out.begin(), out.end());
}

}  // namespace kiln::apps
