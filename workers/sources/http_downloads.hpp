// What was downloaded from URLs, remembered beyond the builds that asked: a server that knows the tag of one
// need not send it again. Thread-safe.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.hpp"
#include "store/ref_store.hpp"
#include "workers/sources/http_reference.hpp"

namespace kiln::workers {

/// What is known of one download.
struct download {
  std::string ref;  // record id; empty while nothing was fetched (pinned checksums)
  kiln::digest checksum;
  std::string etag;                      // without the mark of weakness
  std::optional<std::int64_t> modified;  // seconds since the Unix epoch
  std::string filename;
  std::string disposition;  // by which the server names it
};

class http_downloads {
 public:
  explicit http_downloads(store::ref_store& store);

  /// The latest first; what their records hold may be gone.
  std::vector<download> of(const http_reference& w) const;
  /// Before those remembered so far, of which only so many stay.
  void add(const http_reference& w, const download& d);

 private:
  store::ref_store& store_;
  store::remembered_values values_;  // by the reference's hash
  std::mutex mutex_;                 // of add()
};

}  // namespace kiln::workers
