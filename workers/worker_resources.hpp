// What every op handler of one worker shares. Owned by whoever makes the worker; handlers keep a reference.
#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "configs/platforms.hpp"
#include "store/ref_store.hpp"
#include "workers/cache_mounts.hpp"
#include "workers/cdi/registry.hpp"
#include "workers/executor/executor.hpp"
#include "workers/op_handler.hpp"
#include "workers/platforms/machine_platforms.hpp"

namespace kiln::workers {

struct worker_resources {
  store::ref_store* refs = nullptr;
  std::unique_ptr<workers::executor> executor;
  std::unique_ptr<workers::cache_mounts> cache_mounts;
  std::unique_ptr<cdi::registry> devices;  // null: CDI is off
  std::unique_ptr<machine_platforms> platforms;
};

struct worker_options {
  store::ref_store* refs = nullptr;
  executor_options executor;
  std::optional<cdi::registry_options> devices;  // none: CDI is off
  std::chrono::nanoseconds platforms_max_age = configs::platforms_max_age;
};

/// Opens the executor (sweeping leftovers) and the rest.
result<std::unique_ptr<worker_resources>> open_worker(worker_options options);

}  // namespace kiln::workers
