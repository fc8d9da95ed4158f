// Cache mounts of one worker: retained mutable snapshots by key, with BuildKit's three ways of sharing them.
// Thread-safe. Source: solver/llbsolver/mounts/mount.go.
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "messages/job.hpp"
#include "ops.pb.h"
#include "store/ref_store.hpp"

namespace kiln::workers {

/// A cache mount in use; several holders when shared. Given back on destruction of the last holder.
class cache_mount {
 public:
  ~cache_mount();
  /// Where containers find its files; stays mounted while held.
  const std::filesystem::path& path() const { return mount_.path(); }
  const std::string& record_id() const { return ref_.id(); }

 private:
  friend class cache_mounts;
  class cache_mounts* owner_ = nullptr;
  std::string name_;
  store::mutable_ref ref_;
  store::mounted mount_;
};

class cache_mounts {
 public:
  explicit cache_mounts(store::ref_store& refs) : refs_(refs) {}

  /// shared: the one everybody uses; private: a free one or a new one; locked: waits until it is
  /// free (cancelled when the job is). `base` is what a new one starts from; `key` includes its id.
  result<std::shared_ptr<cache_mount>> acquire(const std::string& key, pb::CacheSharingOpt sharing,
                                               const store::ref& base, const std::string& description,
                                               const job_context& job);

  /// Empties the cache of that key (all its copies but those in use now).
  status wipe(const std::string& key, const job_context& job);

 private:
  friend class cache_mount;
  result<std::shared_ptr<cache_mount>> take(const std::string& name, const store::ref& base,
                                            const std::string& description, const job_context& job);

  store::ref_store& refs_;
  std::mutex mutex_;
  std::condition_variable_any freed_;
  std::mutex shared_mutex_;
  std::map<std::string, std::weak_ptr<cache_mount>> shared_;  // by key; under shared_mutex_
};

}  // namespace kiln::workers
