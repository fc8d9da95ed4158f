// The one way to write a source, made by the parsers that fetch it: what policies see is what is fetched,
// however a client spelled it. Pure.
#pragma once

#include <string>

#include "solver/source_policy.hpp"

namespace kiln::workers {

/// Whether a source may lead to something else the next time: an image without a digest, a URL without a
/// checksum, a repository without a commit. What cannot be read may.
bool may_lead_elsewhere(const pb::SourceOp& source);

/// The form of
///   docker-image://…  a full reference ("docker.io/library/busybox:latest"), its host in lower case and
///   without
///                     the port it has anyway; docker-image+blob://… likewise
///   oci-layout://…    what was written, which names nothing outside the client's store, and
///   oci-layout+blob://…; one
///                     name alone becomes "docker.io/library/name"
///   http(s)://…       the URL in normal form, without fragment, user and password
///   git://…           "git://host/path#ref:subdir", whatever the protocol, which git.fullurl tells, in
///   normal form
///                     and without what signs in
/// Other sources are written in one way only. What is left out and does not change what is fetched (user and
/// password, the spelling of a registry's host, by which its credentials are found) comes back by `restore`.
class source_form final : public solver::source_form {
 public:
  status rewrite(pb::SourceOp& source, const pb::SourceOp* former) override;
  /// Puts back what was left out, if the source still goes to the place that it was written for.
  void restore(pb::SourceOp& source) const;

 private:
  status rewrite_image(pb::SourceOp& source);
  status rewrite_layout(pb::SourceOp& source);
  status rewrite_web(pb::SourceOp& source);
  status rewrite_git(pb::SourceOp& source, const pb::SourceOp* former);
  void keep(std::string place, std::string spelling);

  std::string place_;     // origin of a URL, host of a registry
  std::string spelling_;  // user info of a URL, host of a registry as written
};

}  // namespace kiln::workers
