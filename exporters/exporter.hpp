// Exporters turn a build's result into something that leaves the daemon: images, archives, directories.
// Blocking; run as jobs on the worker that holds the refs. They know nothing of actors or builds.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "configs/compatibility.hpp"
#include "messages/attestation.hpp"
#include "messages/job.hpp"
#include "messages/platform.hpp"
#include "store/ref_store.hpp"

namespace kiln::distribution {
class hosts;
}

namespace kiln::configs {
struct gha_cache_config;
}

namespace kiln::exporters {

/// An attestation with the files it is read from.
struct part_attestation {
  attestation what;
  store::ref ref;  // empty when the daemon made it
};

/// One platform's part of a result.
struct export_ref {
  std::string id;  // platform id as in refs.platforms, e.g. "linux/amd64"; empty when single
  kiln::platform platform;
  store::ref ref;  // empty = scratch
  std::vector<part_attestation> attestations;
};

/// A build's result as exporters take it.
struct export_input {
  std::vector<export_ref> refs;
  bool multi_platform = false;                  // the result was a map
  std::map<std::string, std::string> metadata;  // result metadata, raw values (containerimage.config, …)
  std::string session_id;                       // of the requesting client; empty if none
  int compatibility_version = configs::compatibility::current;
  /// The value of the image config's "moby.buildkit.cache.v0" for a part whose image has these layers; empty
  /// text when there is nothing to cache. Unset: no inline cache is wanted.
  std::function<result<std::string>(std::size_t part, std::span<const store::layer_blob> layers,
                                    const job_context& job)>
      inline_cache;
};

/// What an export leaves behind.
struct export_outcome {
  std::map<std::string, std::string> response;  // ExporterResponse entries
  std::vector<descriptor> results;              // for the build history
  /// The second phase (pushing), run when every exporter of the build has committed; may be empty.
  std::function<result<std::map<std::string, std::string>>(const job_context&)> finalize;
};

class exporter {
 public:
  virtual ~exporter() = default;
  /// Name of its progress vertex, e.g. "exporting to image".
  virtual std::string name() const = 0;
  /// Whether results can be like that version; unknown, with a CompatibilityFeature detail, when they cannot.
  virtual status can_be_like(int /*compatibility_version*/) const { return {}; }
  virtual result<export_outcome> run(const export_input& input, const job_context& job) = 0;
};

/// What exporters share.
struct exporter_resources {
  store::ref_store* store = nullptr;
  distribution::hosts* hosts = nullptr;
  const configs::gha_cache_config* gha_cache = nullptr;  // null: caches are not signed
  /// A ref of another node ("node!id"), as a lazy ref of the store; null: there are no other nodes. Blocking.
  std::function<result<store::ref>(const std::string& located, const job_context&)> fetch = nullptr;
};

/// Checks type and attributes before anything runs: invalid_argument names the attribute at fault,
/// not_found an unknown type. `id` is the export's index in the request.
result<std::unique_ptr<exporter>> make_exporter(std::string_view type,
                                                const std::map<std::string, std::string>& attributes, int id,
                                                exporter_resources resources);

}  // namespace kiln::exporters
