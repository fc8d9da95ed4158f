// In-toto statements of a result's attestations, ready to be exported. Blocking.
// Source: BuildKit exporter/attestation/{make,unbundle,filter}.go.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/json_text.hpp"
#include "exporters/exporter.hpp"
#include "filesync/tree.hpp"

namespace kiln::exporters {

/// What a statement is about when the attestation does not say.
struct default_subject {
  std::string name;
  digest what;
};

struct statement {
  std::string path;  // of the attestation, for names of files
  std::string predicate_type;
  nlohmann::ordered_json document;  // the statement
  bool core_sbom = false;           // its predicate is the SBOM of the result itself
};

/// Reads, takes bundles apart and checks; those `inline_only` are left out unless `with_inline`.
/// invalid_argument for provenance that a frontend made itself.
result<std::vector<statement>> make_statements(store::ref_store& store,
                                               const std::vector<part_attestation>& all, bool with_inline,
                                               std::span<const default_subject> subjects,
                                               const job_context& job);

/// Whether anything would be left.
bool has_attestations(const std::vector<part_attestation>& all, bool with_inline);

/// A tree with files of its own in the root; a file replaces what is there under its name.
struct extra_file {
  filesync::file_stat stat;
  std::string content;
};
std::unique_ptr<filesync::file_tree> with_files(std::unique_ptr<filesync::file_tree> tree,
                                                std::vector<extra_file> files);

/// Every regular file of a tree with its digest.
result<std::vector<default_subject>> files_of(filesync::file_tree& tree, const job_context& job);

}  // namespace kiln::exporters
