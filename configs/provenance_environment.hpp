// What the operator adds to every provenance: the JSON files of a directory, merged.
// Source: cmd/buildkitd/main.go, provenanceEnv.
#pragma once

#include <string>

#include "base/result.hpp"

namespace kiln::configs {

/// A JSON object; files by name, later ones win. A missing directory gives "{}"; invalid_argument names a
/// file that is no JSON object or a key that is ours.
result<std::string> read_provenance_environment(const std::string& directory);

}  // namespace kiln::configs
