// What --source-policy-file, or $EXPERIMENTAL_BUILDKIT_SOURCE_POLICY, names: rules as JSON. A rule that is
// misread must never come to mean "allow", so whatever is not understood (a key, an action, a kind of match)
// is an error that names it.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "policy.pb.h"

namespace kiln::client {

/// Keys as in the protocol (match_type), in any case and with or without the underscore; enum values by their
/// names or numbers. Source: sourcepolicy/pb of BuildKit, and what Go's encoding/json takes for equal.
result<moby::buildkit::v1::sourcepolicy::Policy> parse_source_policy(std::string_view json);

/// The policy that a build is to have: of the file named on the command line, or else by the environment, as
/// buildx has it. Nothing when neither names one; errors say which did.
result<std::optional<moby::buildkit::v1::sourcepolicy::Policy>> source_policy_of(
    const std::string& named_file);

}  // namespace kiln::client
