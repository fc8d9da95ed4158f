#include "workers/cache_mounts.hpp"

#include <chrono>

namespace kiln::workers {

namespace {

// Names of the records of one key; the first is the shared one. Bounded: more private users than this wait.
constexpr int max_copies = 1000;
// Other holders of a name (garbage collection) do not tell us when they are done.
constexpr std::chrono::milliseconds poll_interval{100};

// Metadata that tells a record somebody used from one that wipe() has just made.
constexpr const char* used_mark = "cache-mount.used";

std::string record_name(const std::string& key, int copy) {
  return "cache-mount:" + key + (copy == 0 ? "" : "#" + std::to_string(copy));
}

}  // namespace

cache_mount::~cache_mount() {
  // In this order: unmounted, given back, told.
  if (auto s = mount_.unmount(); !s) mount_ = {};
  ref_ = {};
  if (owner_ == nullptr) return;
  { std::lock_guard lock(owner_->mutex_); }
  owner_->freed_.notify_all();
}

result<std::shared_ptr<cache_mount>> cache_mounts::take(const std::string& name, const store::ref& base,
                                                        const std::string& description,
                                                        const job_context& job) {
  store::record_options options;
  options.description = description;
  options.type = store::record_type::exec_cachemount;
  auto mount = std::make_shared<cache_mount>();
  KILN_TRY(mount->ref_, refs_.acquire_named(name, base, options, job));
  mount->name_ = name;
  KILN_TRY(auto specs, refs_.files().mounts(mount->ref_));
  KILN_TRY(mount->mount_, store::mounted::make(refs_, specs, store::mount_use::container));
  mount->owner_ = this;
  if (!refs_.values().of_record(mount->ref_.id(), used_mark))
    KILN_CHECK(refs_.values().set_of_record(mount->ref_.id(), used_mark, "1"));
  return mount;
}

result<std::shared_ptr<cache_mount>> cache_mounts::acquire(const std::string& key,
                                                           pb::CacheSharingOpt sharing,
                                                           const store::ref& base,
                                                           const std::string& description,
                                                           const job_context& job) {
  if (sharing == pb::LOCKED) {
    while (true) {
      KILN_CHECK(job.check());
      auto taken = take(record_name(key, 0), base, description, job);
      if (taken || taken.error().code != errc::failed_precondition) return taken;
      std::unique_lock lock(mutex_);
      freed_.wait_for(lock, job.stop, poll_interval, [] { return false; });
    }
  }
  std::unique_lock sharing_lock(shared_mutex_, std::defer_lock);
  if (sharing == pb::SHARED) {
    sharing_lock.lock();  // so that of two that come at once the second finds the first's
    if (auto held = shared_[key].lock()) return held;
  }
  for (int copy = 0; copy < max_copies; ++copy) {
    KILN_CHECK(job.check());
    auto taken = take(record_name(key, copy), base, description, job);
    if (!taken && taken.error().code == errc::failed_precondition) continue;
    if (taken && sharing == pb::SHARED) shared_[key] = *taken;
    return taken;
  }
  return make_error(errc::resource_exhausted, "too many users of cache mount " + key);
}

status cache_mounts::wipe(const std::string& key, const job_context& job) {
  store::record_options options;
  options.type = store::record_type::exec_cachemount;
  for (int copy = 0; copy < max_copies; ++copy) {
    auto taken = refs_.acquire_named(record_name(key, copy), {}, options, job);
    if (!taken && taken.error().code == errc::failed_precondition) continue;  // in use: its user keeps it
    if (!taken) return std::move(taken).error();
    bool fresh = refs_.values().of_record(taken->id(), used_mark) == std::nullopt;
    // Committing frees the name; nobody holds the record then.
    std::string id = taken->id();
    KILN_CHECK(refs_.commit(*std::move(taken)));
    prune_rule only_this;
    only_this.filters = {"id==" + id};
    only_this.all = true;
    KILN_CHECK(refs_.space().prune(only_this, [](const store::usage_record&) {}));
    if (fresh) return {};  // made just now: there are no further ones
  }
  return {};
}

}  // namespace kiln::workers
