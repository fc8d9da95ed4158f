// Typed error details as BuildKit's clients read them: type URL and JSON text. Pure.
// Source: wire.md section 12, solver/errdefs.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "ops.pb.h"

namespace kiln::solver {

error_detail vertex_detail(const kiln::digest& vertex);
/// Which frontend failed; the image it is, if it is one.
error_detail frontend_detail(const std::string& name, const std::string& source);
error_detail source_detail(const pb::SourceInfo& info, const pb::Location& location);

/// What of an op failed, where it was not the whole of it: the input whose content could not be keyed, or the
/// action of a file op.
struct solve_subject {
  int content_input = -1;
  int action = -1;
};

error_detail solve_detail(const pb::Op& op, const pb::OpMetadata& metadata,
                          std::span<const std::string> input_ids, std::span<const std::string> mount_ids,
                          solve_subject subject = {});

/// The refs an error tells of (ids of inputs and mounts in a Solve detail): renamed by `rename`, which is not
/// asked about empty ones.
void rename_refs(error& e, const std::function<std::string(const std::string&)>& rename);
std::vector<std::string> refs_of(const error& e);

/// unknown, as upstream has it: what was asked for is not there at that compatibility version.
error unsupported_feature(int compatibility_version, const std::string& feature);

/// data_loss: nobody has that ref any more; whoever made it can make it again.
error lost_ref(const std::string& ref, std::string_view why);
/// The ref that is lost; empty for any other error.
std::string lost_ref_of(const error& e);

/// failed_precondition: a policy made `source` of an image, which is none and has no config.
error replaced_image(const std::string& image, const std::string& source);
/// What was made of the image; empty for any other error.
std::string replaced_image_of(const error& e);

bool has_detail(const error& e, std::string_view type_url);

constexpr std::string_view frontend_detail_type = "github.com/moby/buildkit/errdefs.Frontend+json";
constexpr std::string_view vertex_detail_type = "github.com/moby/buildkit/errdefs.Vertex+json";
constexpr std::string_view source_detail_type = "github.com/moby/buildkit/errdefs.Source+json";
constexpr std::string_view compatibility_detail_type =
    "github.com/moby/buildkit/errdefs.CompatibilityFeature+json";
constexpr std::string_view lost_ref_detail_type = "kiln/LostRef";
constexpr std::string_view replaced_image_detail_type = "kiln/ReplacedImage";
constexpr std::string_view solve_detail_type = "github.com/moby/buildkit/errdefs.Solve+json";

}  // namespace kiln::solver
