// Frontends turn a build request into LLB. They see their build through `frontend_host` only, a
// blocking mirror of LLBBridge, so built-in frontends, frontend images and clients share one way in.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "gateway.pb.h"
#include "messages/job.hpp"
#include "messages/platform.hpp"
#include "worker.pb.h"

namespace kiln::frontends {

namespace gw = moby::buildkit::v1::frontend;

/// The build a frontend works for. Thread-safe: independent questions may be asked in parallel.
class frontend_host {
 public:
  virtual ~frontend_host() = default;

  /// Solves LLB or another frontend; lazily unless `Evaluate`. Ref ids are valid for this build.
  virtual result<gw::SolveResponse> solve(const gw::SolveRequest& request) = 0;
  virtual result<gw::ResolveImageConfigResponse> resolve_image_config(
      const gw::ResolveImageConfigRequest& request) = 0;
  virtual result<gw::ResolveSourceMetaResponse> resolve_source_meta(
      const gw::ResolveSourceMetaRequest& request) = 0;
  virtual result<gw::ReadFileResponse> read_file(const gw::ReadFileRequest& request) = 0;
  virtual result<gw::ReadDirResponse> read_dir(const gw::ReadDirRequest& request) = 0;
  virtual result<gw::StatFileResponse> stat_file(const gw::StatFileRequest& request) = 0;
  virtual status warn(const gw::WarnRequest& request) = 0;
  /// Whether the frontend `name`, which is built in, may work in the place of a frontend image, and then says
  /// so in the log of the build. Not if a policy makes something else of the image; permission_denied if it
  /// denies it.
  virtual result<bool> stand_in(const std::string& image, const std::string& name) = 0;

  /// Platforms of the workers, the default (build platform) first.
  virtual std::vector<platform> platforms() const = 0;
  /// The worker, as clients may list it.
  virtual const moby::buildkit::v1::types::WorkerRecord& worker() const = 0;
  virtual const std::string& session_id() const = 0;
  virtual std::stop_token stop_token() const = 0;
};

/// The options of the request (`FrontendAttrs`) and its named inputs.
struct frontend_request {
  std::map<std::string, std::string> options;
  std::map<std::string, pb::Definition> inputs;
};

class frontend {
 public:
  virtual ~frontend() = default;
  /// The result: refs by platform id (or one), metadata (image configs, `refs.platforms`, …).
  /// Errors carry Source details (file, ranges) where a place in a file is to blame.
  virtual result<gw::Result> solve(frontend_host& host, const frontend_request& request) = 0;
};

/// The built-in Dockerfile frontend, `dockerfile.v0`.
std::unique_ptr<frontend> make_dockerfile_frontend();

}  // namespace kiln::frontends
