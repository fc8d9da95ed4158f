// What an image says of how it was made, and who signed that: the chain root → image, attestation manifest →
// signature, with the bytes that verify it. Source: BuildKit source/containerimage/source.go;
// github.com/moby/policy-helpers image/resolve.go.
#pragma once

#include "gateway.pb.h"
#include "workers/sources/image_reader.hpp"

namespace kiln::workers {

/// The chain of the platform's image in `root`; none for what is no index. Statements of the predicate types
/// that the request names come with it.
status add_attestation_chain(image_origin& origin, const descriptor& root, const platform& wanted,
                             const moby::buildkit::v1::frontend::ResolveSourceImageRequest& request,
                             moby::buildkit::v1::frontend::ResolveSourceImageResponse& out);

}  // namespace kiln::workers
