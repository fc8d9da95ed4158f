// What frontend options say about attestations. Pure. Source: frontend/attestations/parse.go;
// control/control.go.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "base/result.hpp"

namespace kiln::frontends {

/// Type ("sbom", "provenance") → its attributes.
using attestation_requests = std::map<std::string, std::map<std::string, std::string>>;

/// "attest:<type>" and "build-arg:BUILDKIT_ATTEST_<TYPE>". invalid_argument for other types and malformed
/// values.
result<attestation_requests> parse_attestations(const std::map<std::string, std::string>& options);

struct sbom_options {
  std::string generator;  // normalized reference of the scanner's image
  std::map<std::string, std::string> parameters;
};

/// Nothing when no SBOM is asked for. invalid_argument for a generator that is no image.
result<std::optional<sbom_options>> sbom_wanted(const attestation_requests& requests);

}  // namespace kiln::frontends
