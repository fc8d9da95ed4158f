// What a build's frontend, definition or client came to. Pure.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "actors/build/build_attestations.hpp"

namespace kiln::actors {

struct build_result {
  bool multi = false;
  std::vector<std::pair<std::string, std::string>> refs;  // platform id → ref id; "" → … when single
  std::map<std::string, std::string> metadata;
  frontend_attestations attestations;
  std::vector<std::vector<attestation>> ready;              // those to export, one list a ref
  std::vector<std::pair<std::string, platform>> platforms;  // as the metadata lists them

  /// Refs in the order in which the frontend lists its platforms; what it does not list comes last, by name.
  static build_result of(const gw::Result& r);

  std::vector<std::string> ref_ids() const;
  /// Of the ref of that platform id; `otherwise` when nothing says.
  platform platform_of(const std::string& id, const platform& otherwise) const;
  /// The refs as attestations know them.
  std::vector<attested_part> parts(const platform& otherwise) const;
};

/// Of all refs of a frontend's result, as it was sent.
std::vector<std::string> ids_of(const gw::Result& r);
/// For clients of before LLBBridge had refs with definitions.
void to_deprecated(gw::Result& r);
/// The result of a frontend of before LLBBridge had Return: its last Solve (`Final`) was it, and brought the
/// metadata as JSON of names and base64; where both name something, what was solved counts. invalid_argument
/// for other JSON. Source: BuildKit frontend/gateway/gateway.go.
result<gw::Result> final_result(const std::string& exporter_attributes, const gw::SolveResponse& solved);

}  // namespace kiln::actors
