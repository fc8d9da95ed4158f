// HTTP by libcurl for everything that talks to registries, token servers and web servers: pooled connections,
// streaming both ways, cancellation, limits. Knows nothing of registries. Thread-safe; calls block.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "base/url.hpp"
#include "configs/registry.hpp"
#include "distribution/client_certificates.hpp"
#include "store/files/stream.hpp"

namespace kiln::distribution {

/// How to trust a server and show who we are.
struct tls_settings {
  bool verify = true;
  std::string ca_bundle;  // PEM: the system's and the configured ones; empty = the system's
  std::vector<client_certificate> certificates;  // of ours; the server sees the one it asks for
};

/// Header names in lower case; a repeated header keeps every value.
using headers = std::multimap<std::string, std::string>;
/// The first value, or empty.
std::string header_of(const headers& h, const std::string& lower_case_name);

struct response {
  int status = 0;
  kiln::distribution::headers headers;
  std::string url;   // after redirects
  std::string body;  // when no sink was given
};

struct request {
  std::string method = "GET";
  std::string url;
  std::vector<std::string> headers;  // "Name: value"
  std::shared_ptr<const tls_settings> tls;
  std::stop_token stop;
  std::chrono::seconds stall_timeout = configs::registry_stall_timeout;
  std::chrono::milliseconds connect_timeout = configs::registry_connect_timeout;
  bool by_proxy = true;  // by that of the environment, if it names one
  /// Only the server that was asked, by scheme, host and port, gets our certificate and every header; where
  /// it redirects to, what names the wanted content at most.
  bool follow_redirects = true;
  bool accept_gzip = false;  // the server may compress the body on its way; it arrives plain
  std::int64_t max_body = configs::max_answer_size;  // of response::body

  /// Body to send: bytes at hand, or `body_size` bytes from a source that `open_body` opens (again).
  std::string body;
  std::function<result<std::unique_ptr<store::byte_source>>()> open_body;
  std::int64_t body_size = 0;

  /// Where a 2xx body goes instead of response::body; the status and headers are known by then.
  std::function<status(const response&, std::string_view)> on_body;
};

/// What went wrong before there was an answer.
enum class wire_failure { none, tls_mismatch, refused, other };

class transport {
 public:
  explicit transport(unsigned max_concurrency);
  ~transport();

  /// Any HTTP status is an answer. Errors: cancelled; unavailable when the network or the peer failed
  /// (worth a retry); data_loss when a body broke off; invalid_argument for a bad URL; or whatever
  /// on_body or the body source returned. `failure` tells causes of unavailable apart.
  result<response> perform(const request& r, wire_failure* failure = nullptr);

  /// Permission for one bulk transfer with a host, given back on destruction.
  class permit {
   public:
    permit(transport* t, std::string host) : transport_(t), host_(std::move(host)) {}
    permit(permit&& other) noexcept
        : transport_(std::exchange(other.transport_, nullptr)), host_(std::move(other.host_)) {}
    permit& operator=(permit&&) = delete;
    ~permit();

   private:
    transport* transport_;
    std::string host_;
  };
  result<permit> acquire(const std::string& host, std::stop_token stop);

 private:
  struct state;
  result<response> ask_once(const request& r, wire_failure& why);
  std::unique_ptr<state> state_;
};

std::string user_agent();

}  // namespace kiln::distribution
