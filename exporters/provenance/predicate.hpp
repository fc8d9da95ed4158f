// SLSA provenance predicates, versions 0.2 and 1. Pure.
// Source: BuildKit solver/llbsolver/provenance/{predicate,buildconfig}.go, provenance/types/types.go.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/json_text.hpp"
#include "base/result.hpp"
#include "exporters/provenance/request_log.hpp"
#include "ops.pb.h"

namespace kiln::exporters {

/// The attributes of `attest:provenance`.
struct provenance_options {
  bool version_02 = false;  // otherwise 1
  bool max = true;
  bool reproducible = false;
  bool complete_materials = false;
  bool inline_only = false;
  bool capture_usage = false;  // of resources: with mode=max of each step, and of the machine
  std::string builder_id;
  std::string filename = "provenance.json";

  std::string predicate_type() const {
    return version_02 ? "https://slsa.dev/provenance/v0.2" : "https://slsa.dev/provenance/v1";
  }
};

/// invalid_argument for an unknown mode or version, or a flag that is none.
result<provenance_options> parse_provenance_options(const std::map<std::string, std::string>& attributes);

struct build_facts {
  std::string invocation_id;
  std::int64_t started_ns = 0;
  std::int64_t finished_ns = 0;
  std::string builder_platform;
  std::string dockerfile_version;
  nlohmann::ordered_json environment = nlohmann::ordered_json::object();  // of the daemon's provenance.d
  int compatibility_version = 0;
  std::map<std::string, std::string> usage;  // of steps, as JSON, by digest of the op in the definition
  nlohmann::ordered_json machine_usage = nlohmann::ordered_json::array();  // while it ran
};

struct provenance_predicate {
  std::string text;  // JSON, indented
  /// Of mode=max: digest of a vertex, as the definition has it → "step3".
  std::map<std::string, std::string> steps;
};

/// failed_precondition when complete materials are asked for and not had.
result<provenance_predicate> make_predicate(const provenance_options& options,
                                            const request_log::provenance_of_ref& provenance,
                                            const pb::Definition& definition, const build_facts& facts);

/// Adds the layers of steps ("step0:0" → chains of descriptors) to a predicate's text.
std::string with_layers(const std::string& predicate, const nlohmann::ordered_json& layers);

}  // namespace kiln::exporters
