// A source before it is used: the policies of the build, then the client's own word on what they made of it.
// The client may first ask for more about the source, or make another source of it. No actor; never blocks.
// Source: BuildKit solver/llbsolver/policy.go.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "actors/continuation.hpp"
#include "messages/actor_interfaces.hpp"
#include "policysession.pb.h"
#include "solver/source_policy.hpp"

namespace kiln::actors {

namespace policy = moby::buildkit::v1::sourcepolicy::policysession;

/// Whom a review asks.
struct policy_questions {
  std::function<void(policy::CheckPolicyRequest, continuation<policy::CheckPolicyResponse>)> check;
  std::function<void(gw::ResolveSourceMetaRequest, continuation<gw::ResolveSourceMetaResponse>)> resolve;
};

/// A source with the platform it is wanted for.
struct reviewed_source {
  pb::SourceOp source;
  pb::Platform platform;
};

/// A source as it is to be used, and a line for people for each conversion that made it so.
struct judged_source {
  pb::SourceOp source;
  std::vector<std::string> conversions;
};

/// `error` says what conversions made the source of which it tells.
error blame(error e, const std::vector<std::string>& conversions);

/// `done` gets the source as it is to be used. permission_denied with the client's messages as details when
/// it is refused; failed_precondition when the client cannot make up its mind.
void review_source(std::vector<solver::source_policy> policies, reviewed_source source,
                   policy_questions questions, continuation<judged_source> done);

/// Applies the policies; without any the source stays as it was written. Errors as solver::apply.
status apply_policies(const std::vector<solver::source_policy>& policies, pb::SourceOp& source,
                      std::vector<std::string>* conversions = nullptr);

/// What tells one source of a definition from another: for another platform it is another.
std::string source_key(const reviewed_source& source);

}  // namespace kiln::actors
