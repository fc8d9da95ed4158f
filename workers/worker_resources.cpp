#include "workers/worker_resources.hpp"

#include "workers/executor/cgroup_root.hpp"
#include "base/files.hpp"
#include "workers/platforms/probe.hpp"

namespace kiln::workers {

namespace {

/// On the file system that steps run on.
program_probe probe_in(const store::scratch_directory& scratch) {
  return [&scratch](const std::string& program) -> result<int> {
    KILN_TRY(auto root, scratch.make("platform"));
    auto end = probe_program(root, program);
    KILN_CHECK(remove_tree(root));
    return end;
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
