#include "workers/worker_resources.hpp"

#include "workers/executor/cgroup_root.hpp"

namespace kiln::workers {

result<std::unique_ptr<worker_resources>> open_worker(worker_options options) {
  if (options.refs == nullptr) return make_error(errc::invalid_argument, "a worker needs a store");
  auto resources = std::make_unique<worker_resources>();
  resources->refs = options.refs;
  KILN_CHECK(prepare_cgroup_root());
  KILN_TRY(resources->executor, executor::open(std::move(options.executor)));
  resources->cache_mounts = std::make_unique<workers::cache_mounts>(*options.refs);
  if (options.devices) resources->devices = std::make_unique<cdi::registry>(*std::move(options.devices));
  return resources;
}

}  // namespace kiln::workers
