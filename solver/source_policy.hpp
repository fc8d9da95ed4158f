// Source policies: rules that allow, deny or convert the sources of a build. Pure.
// Source: features.md M, sourcepolicy/engine.go, matcher.go, mutate.go.
#pragma once

#include <vector>

#include "messages/result.hpp"
#include "ops.pb.h"
#include "policy.pb.h"

namespace kiln::solver {

using source_policy = moby::buildkit::v1::sourcepolicy::Policy;

/// invalid_argument for a rule without a selector.
status validate(const source_policy& policy);

/// Applies the policies to a source, in order: a conversion starts over with what it made of it; of a
/// policy's ALLOW and DENY rules the last that matches wins. permission_denied when it is denied;
/// failed_precondition after too many conversions; invalid_argument for a bad pattern.
status apply(const std::vector<source_policy>& policies, pb::SourceOp& source);

}  // namespace kiln::solver
