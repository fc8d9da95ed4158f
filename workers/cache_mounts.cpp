#include "workers/cache_mounts.hpp"

#include <chrono>
#include <cstdint>

#include <spdlog/spdlog.h>

#include "base/numbers.hpp"
#include "configs/store.hpp"

namespace kiln::workers {

namespace {

// Names of the records of one key; the first is the shared one. Bounded: more private users than this wait.
constexpr int max_copies = 1000;
// Other holders of a name (garbage collection) do not tell us when they are done.
constexpr std::chrono::milliseconds poll_interval{100};

std::string record_name(const std::string& key, const std::string& generation, int copy) {
  return "cache-mount:" + key + (generation.empty() ? "" : "@" + generation) +
         (copy == 0 ? "" : "#" + std::to_string(copy));
}

}  // namespace

cache_mounts::cache_mounts(store::ref_store& refs)
    : refs_(refs),
      generations_(refs.values(), "cache-mount-generations", store::limits::remembered_values,
                   [](std::string_view) { return true; }) {}

cache_mount::~cache_mount() {
  // In this order: unmounted, given back, told.
  if (auto s = mount_.unmount(); !s) mount_ = {};
  auto record = ref_ ? ref_.id() : std::string();
  ref_ = {};
  if (owner_ != nullptr) owner_->given_back(*this, record);
}

void cache_mounts::given_back(const cache_mount& mount, const std::string& record) {
  {
    std::lock_guard lock(mutex_);
    if (--held_[mount.key_] == 0) held_.erase(mount.key_);
  }
  freed_.notify_all();
  if (generation_of(mount.key_) == mount.generation_) return;
  prune_rule gone;
  gone.filters = {"id==" + record};
  gone.all = true;
  if (auto s = refs_.space().prune(gone, [](const store::usage_record&) {}); !s)
    spdlog::warn("detached cache mount {}: {}", mount.key_, s.error().message);
}

result<std::shared_ptr<cache_mount>> cache_mounts::take(const std::string& key, int copy,
                                                        const store::ref& base,
                                                        const std::string& description,
                                                        const job_context& job) {
  store::record_options options;
  options.description = description;
  options.type = store::record_type::exec_cachemount;
  auto mount = std::make_shared<cache_mount>();
  mount->key_ = key;
  mount->generation_ = generation_of(key);
  KILN_TRY(mount->ref_, refs_.acquire_named(record_name(key, mount->generation_, copy), base, options, job));
  KILN_TRY(auto specs, refs_.files().mounts(mount->ref_));
  KILN_TRY(mount->mount_, store::mounted::make(refs_, specs, store::mount_use::container));
  mount->owner_ = this;
  std::lock_guard lock(mutex_);
  ++held_[key];
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
      auto taken = take(key, 0, base, description, job);
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
    auto taken = take(key, copy, base, description, job);
    if (!taken && taken.error().code == errc::failed_precondition) continue;
    if (taken && sharing == pb::SHARED) shared_[key] = *taken;
    return taken;
  }
  return make_error(errc::resource_exhausted, "too many users of cache mount " + key);
}

status cache_mounts::detach(const std::string& id) {
  std::lock_guard sharing_lock(shared_mutex_);  // nobody joins one that is being detached
  std::vector<std::string> keys;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [key, count] : held_)
      if (key == id || key.starts_with(id + ":")) keys.push_back(key);
  }
  for (const auto& key : keys) {
    shared_.erase(key);
    auto former = generation_of(key);
    KILN_CHECK(generations_.set(key, std::to_string(parse_int(former).value_or(0) + 1)));
  }
  return {};
}

}  // namespace kiln::workers
