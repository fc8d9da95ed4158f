// Software bills of materials: a scanner image run over what a build made.
#pragma once

#include <string>

#include "frontends/dockerfile/convert.hpp"
#include "gateway.pb.h"

namespace kiln::dockerfile {

/// A scanner image with its configuration, asked for once a build.
struct sbom_scanner {
  std::string image;
  image_config config;
  option_map parameters;
  kiln::platform platform;
};

/// invalid_argument if the image has no command.
result<sbom_scanner> load_scanner(build_sources& sources);

/// Solves the scan of one platform's result and returns the attestation to add.
/// Source: frontend/attestations/sbom/sbom.go.
result<moby::buildkit::v1::frontend::Attestation> scan(build_sources& sources, const sbom_scanner& scanner,
                                                       const std::string& name, const conversion& target);

}  // namespace kiln::dockerfile
