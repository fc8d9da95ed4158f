// Attestations as they travel from a build to its exporters. Plain.
// Source: BuildKit solver/result/attestation.go.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace kiln {

/// The predicate type of SBOMs. Source: in-toto-golang, PredicateSPDX.
inline constexpr const char* spdx_predicate = "https://spdx.dev/Document";

enum class attestation_kind { in_toto, bundle };
enum class subject_kind { self, raw };  // self: whatever is exported

struct attestation_subject {
  subject_kind kind = subject_kind::self;
  std::string name;
  std::vector<std::string> digests;
};

template <class Inspector>
auto inspect(Inspector& f, attestation_subject& x) {
  return f(x.kind, x.name, x.digests);
}

struct attestation {
  attestation_kind kind = attestation_kind::in_toto;
  std::map<std::string, std::string> metadata;  // "reason", "sbom-core", "inline-only"
  std::string ref;                              // record id of where `path` is; empty when made by the daemon
  std::string path;                             // a file, or of a bundle a directory
  std::string predicate_type;
  std::vector<attestation_subject> subjects;
  /// The predicate's JSON when the daemon made it.
  std::string content;
  /// Of a provenance predicate in `content`: "step0:0" → record id of what the step made. The layers of those
  /// that have some are added when they are exported.
  std::map<std::string, std::string> layer_records;

  bool inline_only() const {
    auto found = metadata.find("inline-only");
    return found != metadata.end() && found->second == "true";
  }
};

template <class Inspector>
auto inspect(Inspector& f, attestation& x) {
  return f(x.kind, x.metadata, x.ref, x.path, x.predicate_type, x.subjects, x.content, x.layer_records);
}

}  // namespace kiln
