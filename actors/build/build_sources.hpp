// Sources of a build before they are used: what its policies and its client make of them, and what they lead
// to. Used on the build's actor only.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "actors/build/build_context.hpp"
#include "actors/build/policy_review.hpp"

namespace kiln::actors {

class build_sources {
 public:
  using policies = std::vector<solver::source_policy>;
  /// Changes an operation; what was done to its source, and by which rule, is added to the lines.
  using op_change = std::function<status(pb::Op&, std::vector<std::string>& conversions)>;

  /// `build` must outlive this. From now on what its sources lead to stays the same.
  explicit build_sources(build_context& build);

  /// The request's policy first, then those of one question. invalid_argument when one of them is none.
  result<policies> policies_with(const google::protobuf::RepeatedPtrField<solver::source_policy>& more) const;

  /// What policies and the client make of a source that is not to be looked up. permission_denied if they
  /// deny it.
  void judge(pb::SourceOp source, int scope, continuation<pb::SourceOp> done);

  /// What a source leads to, for the frontend or client `scope`.
  void resolve(gw::ResolveSourceMetaRequest r, int scope, continuation<gw::ResolveSourceMetaResponse> done);
  void resolve(gw::ResolveImageConfigRequest r, int scope, continuation<gw::ResolveImageConfigResponse> done);

  /// The build has ended: what its sources led to is not kept on for it, nor the content that this kept.
  void close() { held_.reset(); }

  /// Has all sources of a definition judged; `done` gets what is to be done to each of its operations before
  /// it is loaded, which may refuse it.
  void review(std::shared_ptr<const pb::Definition> definition, const policies& policies,
              continuation<op_change> done);

 private:
  bool client_judges() const { return !b_.request().sourcepolicysession().empty(); }
  pb::Platform default_platform() const;
  policy_questions questions_of(int scope);
  /// A failure names the conversions.
  void resolve_judged(gw::ResolveSourceMetaRequest r, std::vector<std::string> conversions, int scope,
                      continuation<gw::ResolveSourceMetaResponse> done);
  void resolve_reviewed(gw::ResolveSourceMetaRequest r, int scope,
                        continuation<gw::ResolveSourceMetaResponse> done);
  void review_each(std::vector<reviewed_source> sources, const policies& policies,
                   continuation<op_change> done);

  build_context& b_;
  std::shared_ptr<workers::resolutions> held_;  // for the worker, who finds it by the build's name
};

}  // namespace kiln::actors
