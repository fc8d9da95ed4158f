// What a worker can do with one kind of op. Handlers are stateless towards a build, thread-safe and blocking;
// the worker actor runs them on its pool. Nothing here knows of actors, cache keys lookups or builds.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "gateway.pb.h"
#include "messages/job.hpp"
#include "messages/platform.hpp"
#include "ops.pb.h"
#include "solver/cache_map.hpp"
#include "store/ref_store.hpp"

namespace kiln::workers {

/// What an exec or file op leaves behind when it fails, for clients that want to look into it. Source:
/// BuildKit solver/llbsolver/errdefs.
struct failure_snapshot {
  bool any = false;                // the op came that far
  std::vector<store::ref> inputs;  // exec: one a mount; file: one an input
  std::vector<store::ref>
      mounts;       // exec: one a mount, with what was written; file: one an action, where known
  int action = -1;  // of a file op: which one failed
};

class resolutions;    // sources/resolutions.hpp
struct proxied_step;  // proxy/judge.hpp

/// One op of a loaded graph, ready to be keyed or run.
struct op_request {
  std::string vertex;  // digest of the vertex, for progress and temporary names
  pb::Op op;
  pb::OpMetadata metadata;
  kiln::platform platform;  // never empty: defaulted when the graph was loaded
  std::string cache_mount_namespace;
  std::shared_ptr<resolutions> build =
      nullptr;                       // what the sources of its build lead to; null: nothing is remembered
  failure_snapshot* left = nullptr;  // filled in by a failing run; null: nobody wants it
  std::string name = {};             // what people know the vertex by
  proxied_step* proxied = nullptr;   // null: the network is as the op says
  std::string* usage = nullptr;      // what its process used (executor/step_usage.hpp); null: nobody wants it
};

/// Everything handlers share; owned by the worker.
struct worker_resources;

class op_handler {
 public:
  virtual ~op_handler() = default;

  /// The op's own digest and how its inputs count, for the `index`-th (0, 1, …) key of the op.
  /// Sources resolve here (manifest digest, ETag, commit) without fetching content; every other op
  /// computes it from the op alone (solver::cache_map_of).
  virtual result<solver::cache_map> cache_map(const op_request& request, int index,
                                              const job_context& job) = 0;

  /// Runs the op. `inputs[i]` belongs to `op.inputs(i)`; an empty ref is scratch. One ref an output.
  virtual result<std::vector<store::ref>> run(const op_request& request, std::span<const store::ref> inputs,
                                              const job_context& job) = 0;
};

/// A source that can also tell of itself without being fetched (image config, git commit, …).
class source_handler : public op_handler {
 public:
  /// The URL schemes served ("docker-image", "local", …).
  virtual std::vector<std::string> schemes() const = 0;
  /// unimplemented when there is nothing to tell. `build`: as in op_request.
  virtual result<moby::buildkit::v1::frontend::ResolveSourceMetaResponse> resolve_meta(
      const moby::buildkit::v1::frontend::ResolveSourceMetaRequest& request,
      const std::shared_ptr<resolutions>& build, const job_context& job) = 0;
};

}  // namespace kiln::workers
