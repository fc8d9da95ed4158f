// Software bills of materials: a scanner image run over what a build made, as LLB. Pure; who solves it is the
// Dockerfile frontend or the daemon. Source: frontend/attestations/sbom/sbom.go.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "frontends/attestations.hpp"
#include "frontends/llb/graph.hpp"
#include "gateway.pb.h"
#include "messages/platform.hpp"

namespace kiln::frontends {

/// A scanner's image and how it is run.
struct sbom_scanner {
  std::string image;
  std::vector<std::string> args;
  std::vector<std::string> env;  // "NAME=value"
  std::string working_dir;
  std::map<std::string, std::string> parameters;
  kiln::platform platform;
};

/// `image` and `config` as they were resolved. invalid_argument if the image has no command or a config that
/// is none.
result<sbom_scanner> make_scanner(const sbom_options& wanted, std::string image, const std::string& config,
                                  kiln::platform platform);

struct scan_target {
  std::string name;  // of its platform
  llb::output files;
  std::map<std::string, llb::output> extras;  // build contexts and stages that it may look at besides
  bool ignore_cache = false;
};

/// The directory that the scanner leaves its statements in.
result<llb::output> scan(llb::graph& graph, const sbom_scanner& scanner, const scan_target& target);

/// The attestation of a result that holds what scan() gives.
moby::buildkit::v1::frontend::Attestation scan_attestation(const std::string& ref);

}  // namespace kiln::frontends
