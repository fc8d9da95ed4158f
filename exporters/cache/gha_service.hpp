// GitHub's Actions cache service, as a store of immutable entries under keys: version 1 (REST) and version 2
// (Twirp, bytes at signed URLs of a blob store). It takes a key once, for ever; reservations that nobody
// commits stay. Blocking; a service serves several threads. Source: go-actions-cache; actions/toolkit,
// packages/cache.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <stop_token>
#include <string>

#include "configs/remote_cache.hpp"
#include "exporters/cache/gha_token.hpp"
#include "exporters/cache/object_store.hpp"
#include "distribution/transport.hpp"

namespace kiln::exporters {

/// Requests of one token wait together while the service says that there are too many of them.
class rate_gate {
 public:
  using clock = std::chrono::steady_clock;

  /// Until requests may be sent; resource_exhausted at once when that is after `deadline`, cancelled when
  /// stopped.
  status wait(clock::time_point deadline, std::stop_token stop);
  /// Too many requests: none for `pause`, or for longer each time when the service does not say how long.
  void close(std::optional<std::chrono::nanoseconds> pause);
  /// An answer.
  void passed();

 private:
  std::mutex mutex_;
  clock::time_point opens_;
  std::chrono::nanoseconds next_pause_ = configs::gha_first_pause;
};

/// Where a cache is, and who asks; shared by all jobs of one import or export.
struct gha_place {
  std::string url;  // no final slash
  int version = 1;
  gha_token token;
  std::chrono::nanoseconds patience = configs::gha_patience;  // with "too many requests", for each request
  rate_gate gate;
};

class gha_service {
 public:
  virtual ~gha_service() = default;

  struct entry {
    std::string key, url;  // where its bytes are; good for some time, for whoever has it
  };
  /// A key that is ours to fill.
  struct reservation {
    std::string key;
    std::string where;  // version 1: its number; version 2: the URL of its blob
  };

  /// The entry with that key, in the token's scopes; nothing when there is none.
  result<std::optional<entry>> find(const std::string& key);
  /// The newest one whose key begins so.
  result<std::optional<entry>> newest(const std::string& prefix);
  /// Nothing when the key is taken, whether its bytes are there yet or not.
  virtual result<std::optional<reservation>> reserve(const std::string& key) = 0;
  virtual status fill(const reservation& place, const object_body& body) = 0;
  /// From here on the entry is found.
  virtual status commit(const reservation& place, std::int64_t size) = 0;

 protected:
  virtual result<std::optional<entry>> look_up(const std::string& key, bool as_prefix) = 0;
};

std::unique_ptr<gha_service> open_gha_service(std::shared_ptr<gha_place> place,
                                              distribution::transport& transport, const job_context& job);

/// The keys that begin so, in scopes that the token reads, of all entries of a repository ("owner/name"), as
/// GitHub's REST API lists them for `github_token`.
result<std::set<std::string>> list_gha_keys(const std::string& repository, const std::string& github_token,
                                            const gha_token& token, const std::string& prefix,
                                            distribution::transport& transport, const job_context& job);

}  // namespace kiln::exporters
