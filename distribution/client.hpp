// One repository of a registry, for one job: resolving, pulling and pushing, with authentication, mirrors,
// retries and verification. Blocking; a repository serves several threads at once.
// Source: containerd core/remotes/docker (resolver, fetcher, pusher); OCI distribution-spec.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "messages/descriptor.hpp"
#include "messages/image_reference.hpp"
#include "messages/job.hpp"
#include "distribution/hosts.hpp"
#include "distribution/transport.hpp"
#include "store/blobs/blob_store.hpp"

namespace kiln::distribution {

using byte_progress = std::function<void(std::int64_t current, std::int64_t total)>;

/// A manifest's bytes and what they are.
struct fetched_manifest {
  descriptor desc;
  std::string bytes;
};

class repository {
 public:
  enum class access { pull, push };

  /// failed_precondition when the registry's configuration is unusable.
  static result<std::unique_ptr<repository>> open(hosts& h, image_reference ref, access wanted,
                                                  const job_context& job, bool insecure = false);

  const image_reference& ref() const { return ref_; }

  /// What tag or digest names: media type, digest, size. not_found "<ref>: not found".
  result<descriptor> resolve();
  /// The manifest with this digest, verified; data_loss when the registry sends something else.
  result<fetched_manifest> manifest(const digest& d);
  /// The whole of a small blob, verified.
  result<std::string> small_blob(const descriptor& d, std::int64_t limit);
  /// Brings a blob into the store: resumes what an earlier attempt left, verifies, tries the next
  /// endpoint when one fails. A no-op when it is there.
  status fetch_blob(const descriptor& d, store::blob_store& into, const byte_progress& progress);

  /// What the registry has about that manifest (signatures, say): by its referrers API, or where it has none,
  /// by the tag that stands for it. Source: OCI distribution-spec, Listing Referrers.
  result<std::vector<descriptor>> referrers(const digest& d);

  // Pushing.
  result<bool> has_blob(const digest& d);
  /// Mounts the blob from another repository of this registry; false when the registry declines.
  result<bool> mount_blob(const digest& d, const std::string& from);
  status push_blob(const descriptor& d, const store::blob_store& from, const byte_progress& progress);
  /// `name` is a tag or a digest.
  status push_manifest(const descriptor& d, std::string_view bytes, const std::string& name);
  /// The size of a blob the registry has (docker-image+blob); not_found otherwise.
  result<std::int64_t> blob_size(const digest& d);

 private:
  repository(hosts& h, image_reference ref, const job_context& job)
      : hosts_(h), ref_(std::move(ref)), job_(job) {}

  std::string scheme_of(const endpoint& e) const;
  /// "<scheme>://<host>/v2/<repository><suffix>".
  std::string url(const endpoint& e, const std::string& suffix) const;
  /// One request with authentication and http fallback; any status is an answer.
  result<response> send(const endpoint& e, request r, const std::vector<std::string>& extra_scopes = {});
  /// The same, repeated while the failure is temporary.
  result<response> send_with_retries(const endpoint& e, const request& r, int attempts,
                                     const std::vector<std::string>& extra_scopes = {});
  result<descriptor> resolve_at(const endpoint& e, int attempts);
  result<std::vector<descriptor>> referrers_at(const endpoint& e, const digest& d, int attempts);
  result<fetched_manifest> manifest_at(const endpoint& e, const std::string& name, int attempts);
  status fetch_from(const endpoint& e, const std::string& from, const descriptor& d, store::blob_store& into,
                    const byte_progress& progress, int attempts);
  result<std::string> begin_upload(const endpoint& e);
  status upload_whole(const endpoint& e, const std::string& location, const descriptor& d,
                      const store::blob_store& from, const byte_progress& progress);
  status upload_chunks(const endpoint& e, std::string location, const descriptor& d,
                       const store::blob_store& from, const byte_progress& progress);
  /// Waits before attempt `n` (1, 2, …); cancelled when the job is.
  status pause(int n, const response* answer);
  int attempts_at(std::size_t endpoint) const;

  hosts& hosts_;
  image_reference ref_;
  const job_context job_;
  bool push_ = false;
  std::vector<endpoint> endpoints_;
};

/// "unexpected status from GET request to https://…: 500 Internal Server Error", with the code that fits
/// and what the registry's error body says.
error status_error(const std::string& method, const std::string& url, const response& r);

/// The label under which a blob remembers repositories that have it.
std::string source_label(std::string_view domain);
/// Adds the repository to the places that are known to have the blob; best effort.
void remember_source(store::blob_store& blobs, const digest& d, const image_reference& ref);

/// The media types we accept as manifests, for the Accept header.
std::string manifest_accept();

}  // namespace kiln::distribution
