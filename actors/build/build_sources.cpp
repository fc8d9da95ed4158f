#include "actors/build/build_sources.hpp"

#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "actors/build/build_request.hpp"
#include "actors/solve/graph_spec.hpp"
#include "base/quoting.hpp"
#include "base/text.hpp"
#include "configs/solving.hpp"
#include "messages/image_reference.hpp"
#include "messages/told_code.hpp"
#include "solver/error_details.hpp"
#include "workers/sources/git_reference.hpp"
#include "workers/sources/resolutions.hpp"

namespace kiln::actors {

namespace {

constexpr std::string_view resolving = "could not resolve image due to policy";

reviewed_source subject_of(const pb::Op& op, const pb::Platform& default_platform) {
  return {op.source(), op.has_platform() ? op.platform() : default_platform};
}

/// The different sources of a definition; what is no op is for the loading to refuse.
std::vector<reviewed_source> sources_of(const pb::Definition& definition,
                                        const pb::Platform& default_platform) {
  std::vector<reviewed_source> out;
  std::set<std::string> seen;
  for (const auto& bytes : definition.def()) {
    pb::Op op;
    if (!op.ParseFromString(bytes) || !op.has_source()) continue;
    auto subject = subject_of(op, default_platform);
    if (seen.insert(source_key(subject)).second) out.push_back(std::move(subject));
  }
  return out;
}

}  // namespace

build_sources::build_sources(build_context& build) : b_(build) {
  if (b_.options.builds) held_ = b_.options.builds->open(build_name(caf::strong_actor_ptr{b_.self->ctrl()}));
}

result<build_sources::policies> build_sources::policies_with(
    const google::protobuf::RepeatedPtrField<solver::source_policy>& more) const {
  policies out;
  if (b_.request().sourcepolicy().rules_size() > 0) out.push_back(b_.request().sourcepolicy());
  for (const auto& policy : more) {
    KILN_CHECK(solver::validate(policy));
    out.push_back(policy);
  }
  return out;
}

pb::Platform build_sources::default_platform() const {
  pb::Platform out;
  to_proto(b_.default_platform(), out);
  return out;
}

policy_questions build_sources::questions_of(int scope) {
  policy_questions out;
  out.check = [this](policy::CheckPolicyRequest request, continuation<policy::CheckPolicyResponse> done) {
    b_.jobs.run<policy::CheckPolicyResponse>(
        b_.self, *b_.options.calls,
        [directory = b_.options.sessions, id = b_.request().sourcepolicysession(),
         stop = b_.channel->stop_token(),
         bytes = request.SerializeAsString()]() -> result<policy::CheckPolicyResponse> {
          if (!directory) return make_error(errc::failed_precondition, "no active sessions");
          KILN_TRY(auto client, directory->find(id, configs::solving::find_wait, stop));
          KILN_TRY(auto reply,
                   client->call("/moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier/CheckPolicy",
                                bytes, {}, configs::solving::policy_answer_wait, stop));
          policy::CheckPolicyResponse out;
          if (!out.ParseFromString(reply)) return make_error(errc::internal, "malformed policy response");
          return out;
        },
        std::move(done));
  };
  out.resolve = [this, scope](gw::ResolveSourceMetaRequest request,
                              continuation<gw::ResolveSourceMetaResponse> done) {
    resolve_reviewed(std::move(request), scope, std::move(done));
  };
  return out;
}

void build_sources::judge(pb::SourceOp source, int scope, continuation<pb::SourceOp> done) {
  auto policies = policies_with({});
  if (!policies.ok()) return done(std::move(policies).error());
  if (client_judges()) {
    reviewed_source subject{std::move(source), default_platform()};
    return review_source(*std::move(policies), std::move(subject), questions_of(scope),
                         [done](result<judged_source> judged) {
                           if (!judged.ok()) return done(std::move(judged).error());
                           done(std::move(judged->source));
                         });
  }
  if (auto s = apply_policies(*policies, source); !s.ok())
    return done(std::move(s).error().with_context(resolving));
  done(std::move(source));
}

void build_sources::resolve(gw::ResolveImageConfigRequest r, int scope,
                            continuation<gw::ResolveImageConfigResponse> answered) {
  auto named = parse_image_reference(r.ref());
  if (!named.ok())
    return answered(std::move(named).error().with_context("could not parse reference " + quote(r.ref())));
  continuation<gw::ResolveImageConfigResponse> done =
      [answered, context = "failed to resolve source metadata for " + named->str()](auto reply) {
        // What a policy made of it is told by its own name.
        if (reply.ok() || !solver::replaced_image_of(reply.error()).empty())
          return answered(std::move(reply));
        answered(std::move(reply).error().with_context(context));
      };
  gw::ResolveSourceMetaRequest meta;
  auto& source = *meta.mutable_source();
  if (r.resolvertype() != 0 && r.resolvertype() != 1)
    return done(
        make_error(errc::invalid_argument, "ResolverType: unknown " + std::to_string(r.resolvertype())));
  bool layout = r.resolvertype() == 1;
  source.set_identifier((layout ? "oci-layout://" : "docker-image://") + named->str());
  if (layout) {
    if (!r.sessionid().empty()) (*source.mutable_attrs())["oci.session"] = r.sessionid();
    if (!r.storeid().empty()) (*source.mutable_attrs())["oci.store"] = r.storeid();
  } else if (!r.resolvemode().empty()) {
    (*source.mutable_attrs())["image.resolvemode"] = r.resolvemode();
  }
  if (r.has_platform()) *meta.mutable_platform() = r.platform();
  meta.set_resolvemode(r.resolvemode());
  meta.set_logname(r.logname());
  meta.mutable_image();
  *meta.mutable_sourcepolicies() = r.sourcepolicies();
  auto asked = meta;
  resolve(std::move(meta), scope, [this, done, asked](result<gw::ResolveSourceMetaResponse> reply) mutable {
    if (!reply.ok()) return done(std::move(reply).error());
    gw::ResolveImageConfigResponse out;
    // A policy may have made another image of it, but not anything else: nobody could tell its config.
    const auto& resolved = reply->source().identifier();
    std::string ref;
    for (std::string_view scheme : {"docker-image://", "oci-layout://"})
      if (resolved.starts_with(scheme)) ref = resolved.substr(scheme.size());
    if (ref.empty()) {
      auto why = solver::replaced_image(asked.source().identifier(), resolved);
      auto policies = policies_with(asked.sourcepolicies());
      std::vector<std::string> conversions;
      if (policies.ok() && apply_policies(*policies, *asked.mutable_source(), &conversions).ok() &&
          !conversions.empty())
        why.message += ": " + join(conversions, ", ");
      return done(std::move(why));
    }
    out.set_digest(reply->image().digest());
    out.set_config(reply->image().config());
    out.set_ref(ref);
    done(std::move(out));
  });
}

void build_sources::resolve(gw::ResolveSourceMetaRequest r, int scope,
                            continuation<gw::ResolveSourceMetaResponse> done) {
  if (auto s = b_.refuse_late(); !s.ok()) return done(std::move(s).error());
  if (!r.has_source())
    return done(told_as(errc::invalid_argument, make_error(errc::invalid_argument, "source is required")));
  auto policies = policies_with(r.sourcepolicies());
  if (!policies.ok()) return done(std::move(policies).error());
  if (!client_judges()) {
    std::vector<std::string> conversions;
    if (auto s = apply_policies(*policies, *r.mutable_source(), &conversions); !s.ok())
      return done(std::move(s).error().with_context(resolving));
    return resolve_judged(std::move(r), std::move(conversions), scope, std::move(done));
  }
  reviewed_source subject{r.source(), r.has_platform() ? r.platform() : default_platform()};
  review_source(*std::move(policies), std::move(subject), questions_of(scope),
                [this, r = std::move(r), scope, done](result<judged_source> judged) mutable {
                  if (!judged.ok()) return done(std::move(judged).error());
                  *r.mutable_source() = std::move(judged->source);
                  resolve_judged(std::move(r), std::move(judged->conversions), scope, std::move(done));
                });
}

void build_sources::resolve_judged(gw::ResolveSourceMetaRequest r, std::vector<std::string> conversions,
                                   int scope, continuation<gw::ResolveSourceMetaResponse> done) {
  resolve_reviewed(std::move(r), scope, [done, conversions = std::move(conversions)](auto reply) mutable {
    if (reply.ok()) return done(std::move(reply));
    done(blame(std::move(reply).error(), conversions));
  });
}

void build_sources::resolve_reviewed(gw::ResolveSourceMetaRequest r, int scope,
                                     continuation<gw::ResolveSourceMetaResponse> done) {
  auto worker = b_.worker();
  if (!worker.ok()) return done(std::move(worker).error());
  auto shown = b_.tasks.open(r.logname().empty() ? "resolve " + r.source().identifier() : r.logname());
  r.set_logname(shown.digest());  // where the worker tells of it
  b_.self->request(*worker, caf::infinite, b_.sessions(), r, b_.progress())
      .then(
          [this, shown, scope, asked = r, done](gw::ResolveSourceMetaResponse& reply) {
            b_.tasks.close(shown, "");
            b_.attestations.looked_at(scope, asked, reply);
            done(std::move(reply));
          },
          [this, shown, done](caf::error& e) {
            auto failure = from_caf(e);
            b_.tasks.close(shown, failure.message);
            done(std::move(failure));
          });
}

void build_sources::review(std::shared_ptr<const pb::Definition> definition, const policies& policies,
                           continuation<op_change> judged) {
  continuation<op_change> done = [judged,
                                  version = compatibility_of(b_.request())](result<op_change> change) {
    if (!change.ok()) return judged(std::move(change).error());
    judged(op_change{
        [judge = *std::move(change), version](pb::Op& op, std::vector<std::string>& conversions) -> status {
          KILN_CHECK(judge(op, conversions));
          workers::set_compatibility(*op.mutable_source(), version);
          return {};
        }});
  };
  if (!client_judges()) {
    op_change change = [policies](pb::Op& op, std::vector<std::string>& conversions) -> status {
      auto applied = apply_policies(policies, *op.mutable_source(), &conversions);
      if (applied.ok()) return applied;
      return std::move(applied).error().with_context("error evaluating the source policy");
    };
    return done(std::move(change));
  }
  using sources = std::vector<reviewed_source>;
  bool small = definition->ByteSizeLong() <= configs::solving::quick_definition_bytes;
  b_.jobs.run_unless<sources>(
      small, b_.self, *b_.options.io,
      [definition = std::move(definition), platform = default_platform()]() -> result<sources> {
        return sources_of(*definition, platform);
      },
      [this, policies, done](result<sources> found) {
        if (!found.ok()) return done(std::move(found).error());
        review_each(*std::move(found), policies, done);
      });
}

void build_sources::review_each(std::vector<reviewed_source> sources, const policies& policies,
                                continuation<op_change> done) {
  struct verdicts {
    std::map<std::string, judged_source> passed;
    std::size_t missing = 1;
    std::optional<error> refused;
  };
  auto all = std::make_shared<verdicts>();
  auto one_less = [all, done, platform = default_platform()] {
    if (--all->missing > 0) return;
    if (all->refused) return done(std::move(*all->refused).with_context("failed to load LLB"));
    op_change change = [all, platform](pb::Op& op, std::vector<std::string>& conversions) -> status {
      auto found = all->passed.find(source_key(subject_of(op, platform)));
      if (found == all->passed.end())
        return make_error(errc::internal, "source \"" + op.source().identifier() + "\" was not reviewed");
      *op.mutable_source() = found->second.source;
      conversions = found->second.conversions;
      return {};
    };
    done(std::move(change));
  };
  for (auto& subject : sources) {
    ++all->missing;
    auto key = source_key(subject);
    review_source(policies, std::move(subject), questions_of(0),
                  [all, one_less, key = std::move(key)](result<judged_source> judged) {
                    if (judged.ok()) all->passed[key] = *std::move(judged);
                    else if (!all->refused) all->refused = std::move(judged).error();
                    one_less();
                  });
  }
  one_less();
}

}  // namespace kiln::actors
