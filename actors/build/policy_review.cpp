#include "actors/build/policy_review.hpp"

#include <map>
#include <utility>

#include "base/text.hpp"
#include "configs/solving.hpp"
#include "messages/platform.hpp"
#include "solver/go_json.hpp"
#include "workers/sources/git_reference.hpp"
#include "workers/sources/source_form.hpp"

namespace kiln::actors {

namespace {

namespace sp = moby::buildkit::v1::sourcepolicy;

using attributes = std::map<std::string, std::string>;

attributes attributes_of(const pb::SourceOp& s) { return {s.attrs().begin(), s.attrs().end()}; }

const char* name_of(sp::PolicyAction action) {
  switch (action) {
    case sp::ALLOW: return "ALLOW";
    case sp::DENY: return "DENY";
    case sp::CONVERT: return "CONVERT";
    default: return "UNKNOWN";
  }
}

error denied(const pb::SourceOp& source, const policy::DecisionResponse& decision) {
  auto e = make_error(
      errc::permission_denied,
      "source \"" + source.identifier() + "\" not allowed by policy: action " + name_of(decision.action()));
  if (decision.denymessages_size() > 0) {
    policy::DecisionResponse detail = decision;
    detail.set_action(sp::DENY);
    e.details.push_back(
        {"github.com/moby/buildkit/policysession.DecisionResponse+json", solver::go_json(detail)});
  }
  return e;
}

/// The bundle that a git source comes from is a source, too: its policies say where it may be got.
status apply_to_bundle(const std::vector<solver::source_policy>& policies, pb::SourceOp& source,
                       std::vector<std::string>* all_conversions) {
  auto at = source.mutable_attrs()->find(workers::git_bundle_attribute);
  if (at == source.mutable_attrs()->end() || !source.identifier().starts_with("git://")) return {};
  pb::SourceOp blob;
  blob.set_identifier(at->second);
  *blob.mutable_attrs() = source.attrs();
  blob.mutable_attrs()->erase(workers::git_bundle_attribute);
  workers::source_form form;
  std::vector<std::string> conversions;
  if (auto s = solver::apply(policies, blob, form, nullptr, &conversions); !s.ok())
    return std::move(s).error().with_context(std::string(workers::git_bundle_attribute));
  if (conversions.empty()) return {};
  if (all_conversions != nullptr)
    all_conversions->insert(all_conversions->end(), conversions.begin(), conversions.end());
  form.restore(blob);
  at->second = blob.identifier();
  return {};
}

struct review : std::enable_shared_from_this<review> {
  std::vector<solver::source_policy> policies;
  reviewed_source subject;
  policy_questions questions;
  continuation<judged_source> done;
  std::vector<std::string> conversions;
  policy::CheckPolicyRequest request;
  workers::source_form form;
  int rounds_left = configs::solving::policy_rounds_max;

  /// From the start, and again with what a conversion made of `former`.
  void begin(const pb::SourceOp* former) {
    if (auto s = solver::apply(policies, subject.source, form, former, &conversions); !s.ok())
      return fail(std::move(s).error().with_context("error evaluating the source policy"));
    if (auto s = apply_to_bundle(policies, subject.source, &conversions); !s.ok())
      return fail(std::move(s).error().with_context("error evaluating the source policy"));
    request.Clear();
    *request.mutable_platform() = subject.platform;
    *request.mutable_source()->mutable_source() = subject.source;
    ask();
  }

  void fail(error e) { done(blame(std::move(e), conversions)); }

  void ask() {
    if (--rounds_left < 0) return fail(make_error(errc::failed_precondition, "too many policy requests"));
    questions.check(request, [self = shared_from_this()](result<policy::CheckPolicyResponse> reply) {
      if (!reply.ok()) return self->fail(std::move(reply).error());
      if (reply->has_request()) return self->look(*reply->mutable_request());
      if (!reply->has_decision())
        return self->fail(make_error(errc::failed_precondition, "no decision in policy response"));
      self->decide(reply->decision());
    });
  }

  void look(gw::ResolveSourceMetaRequest& wanted) {
    const auto& source = subject.source;
    if (wanted.source().identifier() != source.identifier())
      return fail(make_error(errc::failed_precondition, "policy requested different source identifier: \"" +
                                                            wanted.source().identifier() + "\" != \"" +
                                                            source.identifier() + "\""));
    if (attributes_of(wanted.source()) != attributes_of(source))
      return fail(make_error(errc::failed_precondition, "policy requested different source attrs"));
    form.restore(*wanted.mutable_source());
    questions.resolve(
        std::move(wanted), [self = shared_from_this()](result<gw::ResolveSourceMetaResponse> reply) {
          if (!reply.ok())
            return self->fail(
                std::move(reply).error().with_context("error resolving source metadata from policy request"));
          *self->request.mutable_source() = *std::move(reply);
          *self->request.mutable_source()->mutable_source() = self->subject.source;
          self->ask();
        });
  }

  void decide(const policy::DecisionResponse& decision) {
    if (decision.action() == sp::CONVERT) {
      if (!decision.has_update())
        return fail(make_error(errc::failed_precondition, "convert action requires updated source"));
      auto former = std::exchange(subject.source, decision.update());
      conversions.push_back("the client's policy makes \"" + subject.source.identifier() + "\" of \"" +
                            former.identifier() + "\"");
      return begin(&former);
    }
    if (decision.action() != sp::ALLOW) return fail(denied(subject.source, decision));
    form.restore(subject.source);
    done(judged_source{std::move(subject.source), std::move(conversions)});
  }
};

}  // namespace

error blame(error e, const std::vector<std::string>& conversions) {
  if (conversions.empty()) return e;
  return std::move(e).with_context("source policy: " + join(conversions, ", "));
}

void review_source(std::vector<solver::source_policy> policies, reviewed_source source,
                   policy_questions questions, continuation<judged_source> done) {
  auto r = std::make_shared<review>();
  r->policies = std::move(policies);
  r->subject = std::move(source);
  r->questions = std::move(questions);
  r->done = std::move(done);
  r->begin(nullptr);
}

status apply_policies(const std::vector<solver::source_policy>& policies, pb::SourceOp& source,
                      std::vector<std::string>* conversions) {
  if (policies.empty()) return {};
  workers::source_form form;
  KILN_CHECK(solver::apply(policies, source, form, nullptr, conversions));
  KILN_CHECK(apply_to_bundle(policies, source, conversions));
  form.restore(source);
  return {};
}

std::string source_key(const reviewed_source& source) {
  std::string out = source.source.identifier();
  for (const auto& [key, value] : attributes_of(source.source)) out += '\0' + key + '\0' + value;
  return out + '\0' + format_platform(from_proto(source.platform));
}

}  // namespace kiln::actors
