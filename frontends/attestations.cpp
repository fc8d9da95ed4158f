#include "frontends/attestations.hpp"

#include <string_view>

#include "base/csv.hpp"
#include "base/text.hpp"
#include "configs/frontends.hpp"
#include "messages/image_reference.hpp"

namespace kiln::frontends {

result<attestation_requests> parse_attestations(const std::map<std::string, std::string>& options) {
  attestation_requests out;
  for (const auto& [key, value] : options) {
    constexpr std::string_view plain = "attest:", argument = "build-arg:BUILDKIT_ATTEST_";
    std::string type;
    if (key.starts_with(plain)) type = key.substr(plain.size());
    else if (key.starts_with(argument)) type = key.substr(argument.size());
    else continue;
    type = to_lower(type);
    if (type != "sbom" && type != "provenance")
      return make_error(errc::invalid_argument, "unknown attestation type \"" + type + "\"");
    auto& attributes = out[type] = {};
    if (value.empty()) continue;
    auto fields = split_csv(value);
    if (!fields.ok()) return std::move(fields).error().with_context("failed to parse " + type);
    for (const auto& field : *fields) {
      auto equals = field.find('=');
      attributes[field.substr(0, equals)] = equals == std::string::npos ? "" : field.substr(equals + 1);
    }
  }
  return out;
}

result<std::optional<sbom_options>> sbom_wanted(const attestation_requests& requests) {
  auto found = requests.find("sbom");
  if (found == requests.end()) return std::optional<sbom_options>();
  sbom_options out;
  std::string generator = configs::sbom_generator;
  for (const auto& [key, value] : found->second) {
    if (key == "generator") generator = value;
    else out.parameters[key] = value;
  }
  auto ref = parse_image_reference(generator);
  if (!ref.ok()) return std::move(ref).error().with_context("failed to parse sbom generator " + generator);
  out.generator = ref->tagged().str();
  return std::optional(std::move(out));
}

}  // namespace kiln::frontends
