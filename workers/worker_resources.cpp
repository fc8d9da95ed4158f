#include "workers/worker_resources.hpp"

#include <utility>

#include <sys/mount.h>

#include "workers/executor/cgroup_root.hpp"
#include "workers/executor/private_mount.hpp"
#include "workers/platforms/probe.hpp"

namespace kiln::workers {

namespace {

/// In a file system of its own: nothing that lies in the state can be run by the daemon.
program_probe probe_in(const store::scratch_directory& scratch) {
  return [&scratch](const std::string& program) -> result<int> {
    KILN_TRY(auto directory, scratch.make("platform"));
    KILN_TRY(auto root, private_mount::tmpfs(std::move(directory), MS_NOSUID | MS_NODEV, "mode=0700"));
    return probe_program(root.path(), program);
  };
}

}  // namespace

result<std::unique_ptr<worker_resources>> open_worker(worker_options options) {
  if (options.refs == nullptr) return make_error(errc::invalid_argument, "a worker needs a store");
  auto resources = std::make_unique<worker_resources>();
  resources->refs = options.refs;
  KILN_CHECK(prepare_cgroup_root());
  KILN_TRY(resources->executor, executor::open(std::move(options.executor)));
  resources->cache_mounts = std::make_unique<workers::cache_mounts>(*options.refs);
  if (options.devices) resources->devices = std::make_unique<cdi::registry>(*std::move(options.devices));
  resources->platforms =
      std::make_unique<machine_platforms>(probe_in(options.refs->scratch()), options.platforms_max_age);
  return resources;
}

}  // namespace kiln::workers
