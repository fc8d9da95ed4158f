// Source policies: rules that allow, deny or convert the sources of a build. Pure.
// Source: sourcepolicy/engine.go, matcher.go, mutate.go.
#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"
#include "ops.pb.h"
#include "policy.pb.h"

namespace kiln::solver {

using source_policy = moby::buildkit::v1::sourcepolicy::Policy;

/// invalid_argument for a rule without a selector.
status validate(const source_policy& policy);

/// The one way to write a source (workers/sources/source_form.hpp): policies see this and nothing else.
class source_form {
 public:
  virtual ~source_form() = default;
  /// Rewrites the source. `former` is what a conversion made it of; null for one as a client wrote it.
  /// invalid_argument for one of a known kind that cannot be read, and for a conversion to an unknown kind:
  /// nobody can tell what it would fetch.
  virtual status rewrite(pb::SourceOp& source, const pb::SourceOp* former) = 0;
};

/// Rewrites the source and applies the policies, in order: a conversion starts over with what it made of it,
/// in the same form; of a policy's ALLOW and DENY rules the last that matches wins. `former` as above.
/// permission_denied when it is denied; failed_precondition after too many conversions; invalid_argument for
/// a bad pattern or source. Each names the rule, and those that made the source what it was then.
/// `conversions`: gets a line for each, for people.
status apply(const std::vector<source_policy>& policies, pb::SourceOp& source, source_form& form,
             const pb::SourceOp* former = nullptr, std::vector<std::string>* conversions = nullptr);

/// Whether both have the same identifier and attributes.
bool same_source(const pb::SourceOp& a, const pb::SourceOp& b);

}  // namespace kiln::solver
