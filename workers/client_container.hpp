// A container that a client keeps: its mounts are made once, its processes come and go, its files can be
// looked at. Thread-safe; everything here blocks. Knows nothing of actors. Source: BuildKit
// frontend/gateway/container.
#pragma once

#include <memory>
#include <span>
#include <stop_token>
#include <string_view>

#include "base/result.hpp"
#include "gateway.pb.h"
#include "messages/job.hpp"
#include "store/ref_store.hpp"
#include "workers/executor/container.hpp"
#include "workers/proxy/judge.hpp"

namespace kiln::workers {

namespace gw = moby::buildkit::v1::frontend;

struct worker_resources;

/// What the build that owns a container may do.
struct container_grants {
  bool network_host = false;
  bool security_insecure = false;
  bool proxy = false;     // the only network of its containers
  proxy::judge may = {};  // what may be fetched through it; null: everything
};

/// Destroying it (no process may be running any more) unmounts everything and drops what was written.
class client_container {
 public:
  virtual ~client_container() = default;

  /// Before the first process: a read-only directory with one file, which the container's root may read.
  virtual status add_document(const std::string& directory, const std::string& name,
                              std::string_view bytes) = 0;
  /// The first process is the container's own; later ones join it while it runs.
  /// `security.insecure is not allowed` and the like without the grant.
  virtual result<exit_state> run(const gw::InitMessage& init, const process_io& io, std::stop_token stop) = 0;
  /// `MountIndex` counts the mounts of the request.
  virtual result<gw::ReadFileResponse> read_file(const gw::ReadFileRequest& request) = 0;
  virtual result<gw::ReadDirResponse> read_dir(const gw::ReadDirRequest& request) = 0;
  virtual result<gw::StatFileResponse> stat_file(const gw::StatFileRequest& request) = 0;
};

/// Prepares the mounts. `refs[i]` belongs to `request.mounts(i)`; empty where there is none. Secrets and
/// SSH are asked of the job's sessions, now and later; what `resources` and the job's directory point to
/// must outlive the container.
result<std::shared_ptr<client_container>> make_client_container(worker_resources& resources,
                                                                const gw::NewContainerRequest& request,
                                                                std::span<const store::ref> refs,
                                                                const container_grants& grants,
                                                                job_context job);

/// "KILL", "SIGKILL" → 9; nothing for an unknown name. Source: moby/sys/signal, SignalMap (upper case, no
/// SIG).
std::optional<int> signal_number(std::string_view name);

}  // namespace kiln::workers
