// Which registries serve a repository, how to reach them, and what is shared between all who talk to them:
// idle connections, tokens, limits. Thread-safe.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "configs/daemon_config.hpp"
#include "configs/registry.hpp"
#include "messages/job.hpp"
#include "store/files/turns.hpp"

namespace kiln::distribution {

class transport;
class authorizer;
struct tls_settings;

/// One place that serves a repository.
struct endpoint {
  std::string scheme;  // "https" or "http"
  std::string host;    // host[:port]
  std::string path;    // "/v2" or "/v2/prefix"
  std::shared_ptr<const tls_settings> tls;
  bool http_fallback = false;  // try https, then http
  bool push = false;
  bool mirror = false;   // add ?ns=<domain>
  bool foreign = false;  // named by an image, not by us: gets no credentials
};

/// Source: util/resolver/resolver.go, NewRegistryConfig.
class hosts {
 public:
  /// `tables` by host[:port] as images name it; max_concurrency 0 = the default.
  explicit hosts(std::map<std::string, configs::registry_config> tables = {}, unsigned max_concurrency = 0);
  ~hosts();

  /// The endpoints of an image domain, in the order to try them: mirrors (never for pushing), then the
  /// registry. `insecure` is the exporter's registry.insecure: no verification, fall back to http.
  /// failed_precondition when a configured certificate cannot be read.
  result<std::vector<endpoint>> endpoints(std::string_view domain, bool push, bool insecure = false);

  /// The server of a URL that an image names (a foreign layer's). It is asked without credentials and without
  /// our certificate; failed_precondition for plain http that is not configured for it.
  result<endpoint> foreign(std::string_view url);
  /// Whether http without TLS is what is configured for the host, or what this machine gets unasked.
  bool plain_allowed(const std::string& host) const;

  kiln::distribution::transport& transport() { return *transport_; }
  kiln::distribution::authorizer& authorizer() { return *authorizer_; }
  unsigned max_concurrency() const { return max_concurrency_; }

  /// Remembers that a host with http_fallback does not speak TLS.
  void set_plain(const std::string& host);
  bool is_plain(const std::string& host) const;

  /// Lets one caller at a time into `key` (a layer being compressed); cancelled when `stop` asks.
  using turn = store::turns::turn;
  result<turn> wait_turn(const std::string& key, std::stop_token stop) { return turns_.wait(key, stop); }

 private:
  const configs::registry_config& table(const std::string& host) const;
  result<endpoint> make_endpoint(const std::string& host, const configs::registry_config& c);

  std::map<std::string, configs::registry_config> tables_;
  unsigned max_concurrency_;
  std::unique_ptr<kiln::distribution::transport> transport_;
  std::unique_ptr<kiln::distribution::authorizer> authorizer_;
  mutable std::mutex mutex_;
  std::set<std::string> plain_;
  store::turns turns_;
};

/// Whether the host is this machine ("localhost", 127.0.0.0/8, [::1]), whatever the port.
bool is_localhost(std::string_view host);

}  // namespace kiln::distribution
