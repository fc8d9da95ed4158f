#include "node/tls_relay.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <list>
#include <mutex>
#include <vector>

#include <openssl/err.h>
#include <spdlog/spdlog.h>

#include "base/text.hpp"
#include "base/thread.hpp"
#include "node/tls_context.hpp"

namespace kiln::node {

namespace {

using clock = std::chrono::steady_clock;

constexpr std::size_t buffer_bytes = 64 << 10;  // each way of a connection
constexpr int rounds_max = 16;                  // of one connection before the others have their turn
constexpr int listen_backlog = 128;
constexpr std::chrono::seconds refusal_log_interval{10};
constexpr std::chrono::milliseconds accept_pause{100};  // when there are no descriptors left

using addresses_ptr = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

result<addresses_ptr> look_up(const host_port& where, int flags) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags;
  addrinfo* found = nullptr;
  int e = getaddrinfo(where.host.c_str(), std::to_string(where.port).c_str(), &hints, &found);
  if (e != 0)
    return make_error(errc::unavailable,
                      where.host + ": " + (e == EAI_SYSTEM ? strerror(errno) : gai_strerror(e)));
  return addresses_ptr{found, freeaddrinfo};
}

void set_up(int fd, std::chrono::milliseconds silence) {
  int on = 1;
  auto seconds = static_cast<int>(std::max<std::int64_t>(1, silence.count() / 1000));
  auto milliseconds = static_cast<unsigned>(silence.count());
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof seconds);
  setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof seconds);
  setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &milliseconds, sizeof milliseconds);
}

/// Waits until the socket can be read or written; false when the time is over.
bool wait_for(int fd, short events, clock::time_point deadline) {
  for (;;) {
    auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - clock::now()).count();
    if (left <= 0) return false;
    pollfd p{fd, events, 0};
    int n = poll(&p, 1, static_cast<int>(left));
    if (n > 0) return true;
    if (n < 0 && errno != EINTR) return false;
  }
}

error timed_out() { return make_error(errc::deadline_exceeded, "it does not answer"); }

result<unique_fd> connect_to(const addrinfo& a, clock::time_point deadline) {
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

/// Bytes on their way.
class buffer {
 public:
  bool empty() const { return begin_ == bytes_.size(); }
  std::string_view bytes() const { return std::string_view(bytes_).substr(begin_); }
  /// What is put there is on its way, once it is empty.
  std::string& fill() {
    bytes_.clear();
    if (bytes_.capacity() > buffer_bytes) bytes_.shrink_to_fit();  // a large message has gone
    begin_ = 0;
    return bytes_;
  }
  void take(std::size_t n) { begin_ += n; }

 private:
  std::string bytes_;
  std::size_t begin_ = 0;
};

struct connection {
  unique_fd net, plain;
  ssl_ptr ssl;
  certificate_identity other;
  bool shaking_hands = false;
  clock::time_point deadline;  // of the handshake
  buffer in, out;              // from and to the network
  std::unique_ptr<relay_gate> gate;
  bool wants_read = true;  // what TLS waits for
  bool wants_write = false;
  bool net_gone = false;  // hung up: not polled any more
  bool plain_gone = false;
  bool again = false;                  // stopped to let others have their turn
  int net_slot = -1, plain_slot = -1;  // among the descriptors that are polled
};

}  // namespace

struct tls_relay::core {
  tls_relay_options o;
  context_ptr context;
  unique_fd listening;
  unique_fd wake{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::function<void(unique_fd)> take;
  std::mutex mutex;
  std::list<connection> arrived;  // dialled, guarded by mutex
  std::atomic<bool> stopping = false;
  std::list<connection> open;  // the thread's own from here on
  std::size_t shaking_hands = 0;
  std::vector<char> scratch = std::vector<char>(buffer_bytes);
  clock::time_point accept_after;
  std::string refusal;  // the last that was logged
  clock::time_point refused_at;
  thread runner;

  void call() {
    std::uint64_t one = 1;
    [[maybe_unused]] auto n = write(wake.get(), &one, sizeof one);
  }

  void run() {
    // The other end of a connection may go at any time.
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, nullptr);
    std::vector<pollfd> polled;
    while (!stopping) {
      int timeout = gather(polled);
      if (poll(polled.data(), polled.size(), timeout) < 0 && errno != EINTR) {
        spdlog::critical("TLS relay: poll: {}", strerror(errno));
        return;
      }
      if (polled[0].revents) {
        std::uint64_t count;
        [[maybe_unused]] auto n = read(wake.get(), &count, sizeof count);
        std::lock_guard lock(mutex);
        for (auto& c : arrived) c.again = true;
        open.splice(open.end(), arrived);
      }
      for (auto c = open.begin(); c != open.end();) {
        auto events = [&](int slot) {
          return slot < 0 ? short{0} : polled[static_cast<std::size_t>(slot)].revents;
        };
        auto net = events(c->net_slot), plain = events(c->plain_slot);
        c->net_gone |= (net & (POLLHUP | POLLERR)) != 0;
        c->plain_gone |= (plain & (POLLHUP | POLLERR)) != 0;
        bool due = net || plain || c->again || (c->shaking_hands && c->deadline <= clock::now());
        c->net_slot = c->plain_slot = -1;
        if (!due || step(*c)) {
          ++c;
          continue;
        }
        if (c->shaking_hands) --shaking_hands;
        c = open.erase(c);
      }
      accept_some();
    }
  }

  /// What to wait for, and how long, ms.
  int gather(std::vector<pollfd>& polled) {
    polled.clear();
    polled.push_back({wake.get(), POLLIN, 0});
    auto now = clock::now();
    auto until = clock::time_point::max();
    bool again = false;
    if (may_accept()) {
      if (accept_after <= now) {
        polled.push_back({listening.get(), POLLIN, 0});
      } else {
        until = accept_after;
      }
    }
    for (auto& c : open) {
      again |= c.again;
      if (c.shaking_hands) until = std::min(until, c.deadline);
      auto net = static_cast<short>(((c.wants_read && c.in.empty()) || c.shaking_hands ? POLLIN : 0) |
                                    (c.wants_write ? POLLOUT : 0));
      if (c.shaking_hands) net = c.wants_write ? POLLOUT : POLLIN;
      if (!c.net_gone) {
        c.net_slot = static_cast<int>(polled.size());
        polled.push_back({c.net.get(), net, 0});
      }
      if (c.plain && !c.plain_gone) {
        auto plain = static_cast<short>((c.out.empty() ? POLLIN : 0) | (c.in.empty() ? 0 : POLLOUT));
        c.plain_slot = static_cast<int>(polled.size());
        polled.push_back({c.plain.get(), plain, 0});
      }
    }
    if (again) return 0;
    if (until == clock::time_point::max()) return -1;
    return static_cast<int>(
        std::max<std::int64_t>(0, std::chrono::ceil<std::chrono::milliseconds>(until - now).count()));
  }

  bool may_accept() const { return take && open.size() < o.connections_max; }

  void accept_some() {
    while (may_accept() && accept_after <= clock::now()) {
      unique_fd fd{accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
      if (!fd) {
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
          accept_after = clock::now() + accept_pause;
        return;
      }
      connection c;
      c.ssl.reset(SSL_new(context.get()));
      if (!c.ssl || SSL_set_fd(c.ssl.get(), fd.get()) != 1) continue;
      set_up(fd.get(), o.silence);
      SSL_set_accept_state(c.ssl.get());
      c.net = std::move(fd);
      c.shaking_hands = true;
      c.deadline = clock::now() + o.handshake_time;
      if (++shaking_hands > o.handshakes_max) {
        // A handshake takes milliseconds: who has had the longest is the least likely to mean it.
        open.erase(
            std::find_if(open.begin(), open.end(), [](const connection& old) { return old.shaking_hands; }));
        --shaking_hands;
      }
      open.push_back(std::move(c));
    }
  }

  /// Moves what can be moved; false when the connection is over.
  bool step(connection& c) {
    c.again = false;
    if (c.shaking_hands && !shake_hands(c)) return false;
    if (c.shaking_hands) return true;
    c.wants_read = c.wants_write = false;
    bool moved = true;
    for (int round = 0; moved; ++round) {
      if (round == rounds_max) {
        c.again = true;
        return true;
      }
      moved = false;
      if (c.in.empty()) {
        ERR_clear_error();
        int n = SSL_read(c.ssl.get(), scratch.data(), static_cast<int>(scratch.size()));
        if (n > 0) {
          if (!let_in(c, {scratch.data(), static_cast<std::size_t>(n)})) return false;
          moved = true;
        } else if (!wait_for_tls(c, n)) {
          return false;
        }
      }
      if (!c.in.empty()) {
        auto n = send(c.plain.get(), c.in.bytes().data(), c.in.bytes().size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n > 0) {
          c.in.take(static_cast<std::size_t>(n));
          moved = true;
        } else if (errno != EAGAIN && errno != EINTR) {
          return false;
        }
      }
      if (c.out.empty()) {
        auto n = recv(c.plain.get(), scratch.data(), scratch.size(), MSG_DONTWAIT);
        if (n > 0) {
          c.out.fill().assign(scratch.data(), static_cast<std::size_t>(n));
          if (c.gate) c.gate->take_out(c.out.bytes());
          moved = true;
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
          return false;
        }
      }
      if (!c.out.empty()) {
        ERR_clear_error();
        int n = SSL_write(c.ssl.get(), c.out.bytes().data(), static_cast<int>(c.out.bytes().size()));
        if (n > 0) {
          c.out.take(static_cast<std::size_t>(n));
          moved = true;
        } else if (!wait_for_tls(c, n)) {
          return false;
        }
      }
    }
    return true;
  }

  /// Past the gate; false when it ends the connection.
  bool let_in(connection& c, std::string_view bytes) {
    auto& passed = c.in.fill();
    auto good = c.gate ? c.gate->take_in(bytes, passed) : status{};
    if (!c.gate) passed = bytes;
    if (good.ok()) return true;
    auto who = join(c.other.names, ", ");
    log_refusal("the connection of " + (who.empty() ? "a node without a name" : who) +
                    " is ended: " + good.error().message,
                spdlog::level::warn);
    return false;
  }

  /// Notes what TLS waits for; false when it is over.
  static bool wait_for_tls(connection& c, int n) {
    int why = SSL_get_error(c.ssl.get(), n);
    c.wants_read |= why == SSL_ERROR_WANT_READ;
    c.wants_write |= why == SSL_ERROR_WANT_WRITE;
    return why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE;
  }

  /// False when the connection is over; it is open when no handshake is under way any more.
  bool shake_hands(connection& c) {
    if (c.deadline <= clock::now()) return false;
    ERR_clear_error();
    c.wants_read = c.wants_write = false;
    int n = SSL_do_handshake(c.ssl.get());
    if (n != 1) {
      if (wait_for_tls(c, n)) return true;
      log_refusal("a connection is refused: " + ssl_reason(c.ssl.get()), spdlog::level::info);
      return false;
    }
    auto other = make_plain(c, false);
    if (!other.ok()) {
      spdlog::error("cluster: {}", other.error().message);
      return false;
    }
    c.shaking_hands = false;
    --shaking_hands;
    take(*std::move(other));
    return true;
  }

  /// One line for many who fail alike.
  void log_refusal(const std::string& reason, spdlog::level::level_enum level) {
    auto now = clock::now();
    if (reason == refusal && now - refused_at < refusal_log_interval) return;
    spdlog::log(level, "cluster: {}", reason);
    refusal = reason;
    refused_at = now;
  }

  /// The local side of a connection; its other end.
  result<unique_fd> make_plain(connection& c, bool dialled) const {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
      return errno_error(errno, "socketpair");
    c.plain = unique_fd{pair[0]};
    x509_ptr certificate{SSL_get1_peer_certificate(c.ssl.get())};
    if (certificate) c.other = identity_of(certificate.get());
    if (o.gate) c.gate = o.gate(dialled, c.other);
    return unique_fd{pair[1]};
  }

  /// Connects, shakes hands, and waits for the first word: before that, the other side may still refuse us.
  result<connection> dial(const addrinfo& a, clock::time_point deadline) {
    connection c;
    KILN_TRY(c.net, connect_to(a, deadline));
    set_up(c.net.get(), o.silence);
    c.ssl.reset(SSL_new(context.get()));
    if (!c.ssl || SSL_set_fd(c.ssl.get(), c.net.get()) != 1)
      return make_error(errc::internal, "TLS: no connection object");
    SSL_set_connect_state(c.ssl.get());
    for (;;) {
      char word = 0;
      ERR_clear_error();
      int n = SSL_peek(c.ssl.get(), &word, 1);  // shakes hands first
      if (n > 0) return c;
      int why = SSL_get_error(c.ssl.get(), n);
      if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE) {
        auto reason = ssl_reason(c.ssl.get());
        auto refused = reason.find("certificate") != std::string::npos;
        return make_error(refused ? errc::failed_precondition : errc::unavailable, reason);
      }
      if (!wait_for(c.net.get(), why == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, deadline)) return timed_out();
    }
  }
};

tls_relay::tls_relay(std::unique_ptr<core> c) : core_(std::move(c)) {}

tls_relay::~tls_relay() {
  core_->stopping = true;
  core_->call();
  core_->runner.join();
}

result<std::unique_ptr<tls_relay>> tls_relay::open(tls_relay_options options) {
  auto c = std::make_unique<core>();
  c->o = std::move(options);
  KILN_TRY(c->context, make_context(c->o.certificates));
  auto name = "cluster listen address " + join_host_port(c->o.listen.host, c->o.listen.port);
  auto addresses = look_up(c->o.listen, AI_PASSIVE);
  if (!addresses.ok()) return std::move(addresses).error().with_context(name);
  const auto& a = **addresses;
  c->listening = unique_fd{socket(a.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  int on = 1;
  setsockopt(c->listening.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (!c->listening || bind(c->listening.get(), a.ai_addr, a.ai_addrlen) != 0 ||
      listen(c->listening.get(), listen_backlog) != 0)
    return errno_error(errno, name);
  return std::unique_ptr<tls_relay>(new tls_relay(std::move(c)));
}

void tls_relay::start(std::function<void(unique_fd)> take) {
  core_->take = std::move(take);
  core_->runner = thread::must_start("tls-relay", [c = core_.get()] { c->run(); });
}

result<unique_fd> tls_relay::connect(const std::string& address, std::chrono::milliseconds time) {
  auto where = parse_host_port(address);
  if (!where) return make_error(errc::invalid_argument, address + " is no host:port");
  auto deadline = clock::now() + time;
  KILN_TRY(auto addresses, look_up(*where, 0));
  error why = make_error(errc::unavailable, "no address");
  for (auto* a = addresses.get(); a && !core_->stopping; a = a->ai_next) {
    auto dialled = core_->dial(*a, deadline);
    if (!dialled.ok()) {
      why = std::move(dialled).error();
      continue;
    }
    KILN_TRY(auto out, core_->make_plain(*dialled, true));
    {
      std::lock_guard lock(core_->mutex);
      core_->arrived.push_back(*std::move(dialled));
    }
    core_->call();
    return out;
  }
  return why;
}

}  // namespace kiln::node
