#include "actors/build/proxy_judge.hpp"

#include <optional>
#include <utility>
#include <vector>

#include "actors/build/policy_review.hpp"
#include "configs/solving.hpp"

namespace kiln::actors {

namespace {

constexpr std::string_view check_policy =
    "/moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier/CheckPolicy";

/// Whom a review asks, without an actor between: each answer is there before the question returns.
struct direct_questions {
  session_directory* sessions;
  source_lookup source;
  session_group group;
  std::string client;

  result<policy::CheckPolicyResponse> check(const policy::CheckPolicyRequest& request,
                                            std::stop_token stop) const {
    if (!sessions) return make_error(errc::failed_precondition, "no active sessions");
    KILN_TRY(auto caller, sessions->find(client, configs::solving::find_wait, stop));
    KILN_TRY(auto reply, caller->call(check_policy, request.SerializeAsString(), {},
                                      configs::solving::policy_answer_wait, stop));
    policy::CheckPolicyResponse out;
    if (!out.ParseFromString(reply)) return make_error(errc::internal, "malformed policy response");
    return out;
  }

  result<gw::ResolveSourceMetaResponse> resolve(const gw::ResolveSourceMetaRequest& request,
                                                std::stop_token stop) const {
    KILN_TRY(auto handler, source(request.source().identifier()));
    job_context job;
    job.stop = std::move(stop);
    job.sessions = group;
    job.directory = sessions;
    return handler->resolve_meta(request, nullptr, job);
  }
};

}  // namespace

result<workers::proxy::judge> proxy_judge(const proxy_rules& rules, session_directory* sessions,
                                          source_lookup source, session_group group) {
  std::vector<solver::source_policy> policies;
  for (const auto& bytes : rules.policies)
    if (!policies.emplace_back().ParseFromString(bytes))
      return make_error(errc::invalid_argument, "a source policy of a step cannot be read");
  if (policies.empty() && rules.policy_session.empty()) return workers::proxy::judge();
  direct_questions ask{sessions, std::move(source), std::move(group), rules.policy_session};
  return workers::proxy::judge([policies = std::move(policies), ask = std::move(ask)](
                                   const pb::SourceOp& wanted, std::stop_token stop) -> result<pb::SourceOp> {
    auto judged = wanted;
    if (ask.client.empty()) {
      KILN_CHECK(apply_policies(policies, judged));
      return judged;
    }
    std::optional<result<judged_source>> verdict;
    policy_questions questions;
    questions.check = [&](const policy::CheckPolicyRequest& r, const auto& done) {
      done(ask.check(r, stop));
    };
    questions.resolve = [&](const gw::ResolveSourceMetaRequest& r, const auto& done) {
      done(ask.resolve(r, stop));
    };
    review_source(policies, {std::move(judged), {}}, std::move(questions),
                  [&verdict](result<judged_source> v) { verdict = std::move(v); });
    if (!verdict) return make_error(errc::internal, "nobody judged \"" + wanted.identifier() + "\"");
    if (!verdict->ok()) return std::move(*verdict).error();
    return std::move((*verdict)->source);
  });
}

}  // namespace kiln::actors
