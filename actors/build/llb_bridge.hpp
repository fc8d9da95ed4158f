// What a build answers its frontends and gateway clients: solving, looking sources and files up, running
// other frontends. Used on the build's actor only. Source: BuildKit solver/llbsolver/bridge.go.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "actors/build/build_context.hpp"
#include "actors/build/build_sources.hpp"
#include "actors/build/import_set.hpp"
#include "actors/build/ref_table.hpp"

namespace kiln::actors {

class llb_bridge final : public llb_bridge_handler {
 public:
  /// All of these must outlive this.
  llb_bridge(build_context& build, build_sources& sources, import_set& imports, ref_table& refs)
      : b_(build), sources_(sources), imports_(imports), refs_(refs) {}

  /// Runs a frontend on a thread of its depth. not_found when there is none of that name.
  void run_frontend(std::string name, std::map<std::string, std::string> options,
                    std::map<std::string, pb::Definition> inputs, int parent, continuation<gw::Result> done);

  gw::PongResponse ping() const;
  void solve(gw::SolveRequest r, int scope, continuation<gw::SolveResponse> done) override;
  void resolve_image_config(gw::ResolveImageConfigRequest r, int scope,
                            continuation<gw::ResolveImageConfigResponse> done) override;
  void resolve_source_meta(gw::ResolveSourceMetaRequest r, int scope,
                           continuation<gw::ResolveSourceMetaResponse> done) override;
  void read_file(gw::ReadFileRequest r, continuation<gw::ReadFileResponse> done) override;
  void read_dir(gw::ReadDirRequest r, continuation<gw::ReadDirResponse> done) override;
  void stat_file(gw::StatFileRequest r, continuation<gw::StatFileResponse> done) override;
  void evaluate(gw::EvaluateRequest r, continuation<gw::EvaluateResponse> done);
  void warn(gw::WarnRequest r, continuation<gw::WarnResponse> done) override;
  void stand_in(std::string image, std::string name, int scope, continuation<bool> done) override;
  /// What a container needs of this build: its refs' records, its session, what it may do.
  void lend(container_inputs wanted, continuation<container_inputs> done);

 private:
  /// What a question came to, in the form it was asked for.
  void reply(const gw::SolveRequest& question, gw::Result solved, continuation<gw::SolveResponse> done);

  build_context& b_;
  build_sources& sources_;
  import_set& imports_;
  ref_table& refs_;
};

}  // namespace kiln::actors
