#include "workers/proxy/client_stream.hpp"

#include <algorithm>
#include <cerrno>

#include <openssl/err.h>
#include <poll.h>
#include <sys/socket.h>

namespace kiln::workers::proxy {

namespace {

error broken() { return make_error(errc::unavailable, "the connection broke off"); }

int as_int(std::size_t size) { return static_cast<int>(std::min<std::size_t>(size, 1 << 30)); }

}  // namespace

status client_stream::wait(wants what, std::optional<time_point> deadline) {
  for (;;) {
    int timeout = -1;
    if (deadline) {
      auto left = std::chrono::ceil<std::chrono::milliseconds>(*deadline - std::chrono::steady_clock::now());
      if (left.count() <= 0) return make_error(errc::deadline_exceeded, "the client took too long");
      timeout = static_cast<int>(std::min<std::int64_t>(left.count(), 1 << 30));
    }
    pollfd fds[] = {{fd_.get(), static_cast<short>(what == wants::output ? POLLOUT : POLLIN), 0},
                    {stop_fd_, POLLIN, 0}};
    int ready = ::poll(fds, 2, timeout);
    if (ready < 0 && errno == EINTR) continue;
    if (ready < 0) return errno_error(errno, "poll");
    if (fds[1].revents != 0) return make_error(errc::cancelled, "the proxy has ended");
    if (fds[0].revents != 0) return {};
  }
}

result<client_stream::wants> client_stream::wants_of(int returned) {
  switch (SSL_get_error(ssl_.get(), returned)) {
    case SSL_ERROR_WANT_READ: return wants::input;
    case SSL_ERROR_WANT_WRITE: return wants::output;
    default: break;
  }
  auto code = ERR_peek_last_error();
  ERR_clear_error();
  if (const char* why = code != 0 ? ERR_reason_error_string(code) : nullptr)
    return make_error(errc::unavailable, why);
  return broken();
}

status client_stream::start_tls(context_ptr context, time_point deadline) {
  context_ = std::move(context);
  ssl_.reset(SSL_new(context_.get()));
  if (!ssl_ || SSL_set_fd(ssl_.get(), fd_.get()) != 1)
    return make_error(errc::internal, "no TLS for a connection");
  for (;;) {
    ERR_clear_error();
    int done = SSL_accept(ssl_.get());
    if (done == 1) return {};
    KILN_TRY(auto what, wants_of(done));
    KILN_CHECK(wait(what, deadline));
  }
}

result<std::optional<std::size_t>> client_stream::try_read(std::span<char> room) {
  if (ssl_) {
    ERR_clear_error();
    int count = SSL_read(ssl_.get(), room.data(), as_int(room.size()));
    if (count > 0) return std::optional(static_cast<std::size_t>(count));
    if (SSL_get_error(ssl_.get(), count) == SSL_ERROR_ZERO_RETURN) return std::optional<std::size_t>(0);
    KILN_TRY(auto what, wants_of(count));
    if (what == wants::output) KILN_CHECK(wait(what, std::nullopt));
    return std::optional<std::size_t>();
  }
  for (;;) {
    auto count = ::recv(fd_.get(), room.data(), room.size(), 0);
    if (count >= 0) return std::optional(static_cast<std::size_t>(count));
    if (errno == EAGAIN || errno == EWOULDBLOCK) return std::optional<std::size_t>();
    if (errno != EINTR) return broken();
  }
}

result<std::size_t> client_stream::read(std::span<char> room, time_point deadline) {
  for (;;) {
    KILN_TRY(auto count, try_read(room));
    if (count) return *count;
    KILN_CHECK(wait(wants::input, deadline));
  }
}

status client_stream::write(std::string_view bytes) {
  while (!bytes.empty()) {
    auto what = wants::output;
    if (ssl_) {
      ERR_clear_error();
      int count = SSL_write(ssl_.get(), bytes.data(), as_int(bytes.size()));
      if (count > 0) {
        bytes.remove_prefix(static_cast<std::size_t>(count));
        continue;
      }
      KILN_TRY(what, wants_of(count));
    } else {
      auto count = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (count >= 0) {
        bytes.remove_prefix(static_cast<std::size_t>(count));
        continue;
      }
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != EWOULDBLOCK) return broken();
    }
    KILN_CHECK(wait(what, std::nullopt));
  }
  return {};
}

void client_stream::finish() {
  if (ssl_) SSL_shutdown(ssl_.get());
  ERR_clear_error();
  ::shutdown(fd_.get(), SHUT_WR);
}

void client_stream::hang_up() { ::shutdown(fd_.get(), SHUT_RDWR); }

}  // namespace kiln::workers::proxy
