// What somebody gives out for a while (keys, tokens), kept until shortly before its end. Thread-safe.
#pragma once

#include <cstdint>
#include <algorithm>
#include <ctime>
#include <limits>
#include <mutex>
#include <optional>
#include <utility>

#include "base/result.hpp"
#include "configs/remote_cache.hpp"

namespace kiln::exporters {

template <class Secret>
struct temporary {
  Secret secret;
  std::optional<std::int64_t> expires_s;  // Unix epoch; unset: never
};

template <class Secret>
class temporary_secret {
 public:
  /// The one that is kept, or what `ask`, a function that returns result<temporary<Secret>>, gets. One at a
  /// time asks; a failure is not kept.
  template <class Ask>
  result<Secret> get(const Ask& ask) {
    std::lock_guard lock(mutex_);
    if (known_ && std::time(nullptr) < good_until_) return known_->secret;
    KILN_TRY(known_, ask());
    // What is given out with little left to live is better than asking for every request.
    good_until_ = known_->expires_s ? std::max(*known_->expires_s - configs::secret_margin.count(),
                                               std::time(nullptr) + configs::secret_kept_at_least.count())
                                    : std::numeric_limits<std::int64_t>::max();
    return known_->secret;
  }

 private:
  std::mutex mutex_;
  std::optional<temporary<Secret>> known_;
  std::int64_t good_until_ = 0;
};

}  // namespace kiln::exporters
