// Typed error details as BuildKit's clients read them: type URL and JSON text. Pure.
// Source: wire.md section 12, solver/errdefs.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "messages/digest.hpp"
#include "messages/result.hpp"
#include "ops.pb.h"

namespace kiln::solver {

error_detail vertex_detail(const kiln::digest& vertex);
error_detail source_detail(const pb::SourceInfo& info, const pb::Location& location);

/// Which input's content could not be keyed; -1 when the op itself failed.
error_detail solve_detail(const pb::Op& op, const pb::OpMetadata& metadata,
                          std::span<const std::string> input_ids, std::span<const std::string> mount_ids,
                          int content_input = -1);

/// data_loss: nobody has that ref any more; whoever made it can make it again.
error lost_ref(const std::string& ref, std::string_view why);
/// The ref that is lost; empty for any other error.
std::string lost_ref_of(const error& e);

bool has_detail(const error& e, std::string_view type_url);

constexpr std::string_view vertex_detail_type = "github.com/moby/buildkit/errdefs.Vertex+json";
constexpr std::string_view source_detail_type = "github.com/moby/buildkit/errdefs.Source+json";
constexpr std::string_view lost_ref_detail_type = "kiln/LostRef";
constexpr std::string_view solve_detail_type = "github.com/moby/buildkit/errdefs.Solve+json";

}  // namespace kiln::solver
