// What the sources of one build have resolved to. A tag, a branch or a URL may lead elsewhere at any time;
// within a build it leads to where it led first: policies, frontends, keys and steps all see the same. Its
// build and its build's steps hold it; with them goes the content that it keeps from being pruned.
// Thread-safe.
#pragma once

#include <any>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <utility>

#include "base/result.hpp"
#include "configs/sources.hpp"

namespace kiln::workers {

class resolutions {
 public:
  explicit resolutions(std::size_t sources_max = configs::resolved_sources_max) : sources_max_(sources_max) {}

  /// What `source` resolved to in this build, or what `resolve` makes of it. One resolves, whoever else asks
  /// meanwhile waits; failures are not remembered. resource_exhausted when the build has asked for too many
  /// sources.
  template <class T, class Resolve>
  result<T> once(const std::string& source, std::stop_token stop, Resolve resolve) {
    std::unique_lock lock(mutex_);
    for (;;) {
      auto at = known_.find(source);
      if (at == known_.end()) break;
      if (at->second.has_value()) return std::any_cast<const T&>(at->second);
      changed_.wait(lock, stop, [&] {
        auto now = known_.find(source);
        return now == known_.end() || now->second.has_value();
      });
      if (stop.stop_requested()) return make_error(errc::cancelled, "context canceled");
    }
    if (known_.size() >= sources_max_)
      return make_error(errc::resource_exhausted,
                        "a build may resolve " + std::to_string(sources_max_) + " sources, not more");
    known_[source];
    lock.unlock();
    try {
      result<T> found = resolve();
      settle(source, found.ok() ? std::any(*found) : std::any());
      return found;
    } catch (...) {  // a bug; who waits for the answer must not wait for ever
      settle(source, {});
      throw;
    }
  }

 private:
  /// Without a value, whoever asks next resolves.
  void settle(const std::string& source, std::any value) {
    {
      std::lock_guard lock(mutex_);
      if (value.has_value()) known_[source] = std::move(value);
      else known_.erase(source);
    }
    changed_.notify_all();
  }

  std::size_t sources_max_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::map<std::string, std::any> known_;  // without a value: being resolved
};

/// The memories of running builds, by the builds' names. Thread-safe.
class resolution_table {
 public:
  /// Made if there is none yet; it stays as long as somebody holds it.
  std::shared_ptr<resolutions> open(const std::string& build) {
    std::lock_guard lock(mutex_);
    std::erase_if(builds_, [](const auto& entry) { return entry.second.expired(); });
    auto& known = builds_[build];
    auto held = known.lock();
    if (!held) known = held = std::make_shared<resolutions>();
    return held;
  }
  /// Null for a build that has ended, or is another node's.
  std::shared_ptr<resolutions> find(const std::string& build) const {
    std::lock_guard lock(mutex_);
    auto known = builds_.find(build);
    return known == builds_.end() ? nullptr : known->second.lock();
  }

 private:
  mutable std::mutex mutex_;
  std::map<std::string, std::weak_ptr<resolutions>> builds_;
};

/// Without a build, every question resolves anew.
template <class T, class Resolve>
result<T> resolve_once(resolutions* build, const std::string& source, const std::stop_token& stop,
                       Resolve resolve) {
  if (build == nullptr) return resolve();
  return build->once<T>(source, stop, std::move(resolve));
}

}  // namespace kiln::workers
