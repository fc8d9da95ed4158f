#include "distribution/image_json.hpp"

#include "base/json_text.hpp"
#include "configs/registry.hpp"
#include "distribution/media_types.hpp"

namespace kiln::distribution {
namespace {

using json = nlohmann::json;

std::string text_of(const json& j, const char* name) { return text_member(j, name); }

std::map<std::string, std::string> map_of(const json& j, const char* name) {
  const auto* members = member_of(j, name);
  return members ? text_members(*members) : std::map<std::string, std::string>();
}

error bad(const std::string& why) {
  return make_error(errc::invalid_argument, "invalid image manifest: " + why);
}

}  // namespace

platform parse_platform_json(const json& j) {
  platform p{
      text_of(j, "os"), text_of(j, "architecture"), text_of(j, "variant"), text_of(j, "os.version"), {}};
  if (auto it = j.find("os.features"); it != j.end() && it->is_array())
    for (const auto& f : *it)
      if (f.is_string()) p.os_features.push_back(text_value(f));
  return p;
}

result<descriptor> parse_descriptor(const json& j) {
  if (!j.is_object()) return bad("descriptor is no object");
  descriptor d;
  d.media_type = text_of(j, "mediaType");
  auto parsed = digest::parse(text_of(j, "digest"));
  if (!parsed.ok() || parsed->algorithm() == "random")
    return bad("descriptor with digest \"" + text_of(j, "digest") + "\"");
  d.digest = *std::move(parsed);
  d.size = integer_member(j, "size").value_or(-1);
  if (d.size < 0) return bad("descriptor of " + d.digest.str() + " without a size");
  d.annotations = map_of(j, "annotations");
  d.artifact_type = text_of(j, "artifactType");
  if (auto it = j.find("urls"); it != j.end() && it->is_array())
    for (const auto& u : *it)
      if (u.is_string()) d.urls.push_back(text_value(u));
  if (auto it = j.find("platform"); it != j.end() && it->is_object()) d.platform = parse_platform_json(*it);
  return d;
}

result<manifest> parse_manifest(std::string_view bytes, std::string_view media_type) {
  auto parsed = parse_json(bytes);
  if (!parsed.ok()) return std::move(parsed).error().with_context("invalid image manifest");
  const auto& j = *parsed;
  if (!j.is_object()) return bad("not a JSON object");
  manifest m;
  std::string inner = text_of(j, "mediaType");
  bool lists = j.contains("manifests") && !j["manifests"].is_null();
  bool layers =
      (j.contains("layers") && !j["layers"].is_null()) || (j.contains("config") && !j["config"].is_null());
  if (j.contains("fsLayers") || media_type == media::docker_schema1)
    return make_error(errc::unimplemented, "schema 1 image manifests are not supported");
  // One document must not be read as two things. Source: GHSA-5j5w-g665-5m35.
  if (lists && layers) return bad("both an index and a manifest");
  if (!inner.empty() && !media_type.empty() && inner != media_type &&
      (media::is_index(media_type) || media::is_manifest(media_type)))
    return bad("media type \"" + inner + "\" contradicts \"" + std::string(media_type) + "\"");
  m.media_type = !inner.empty() ? inner : std::string(media_type);
  if (m.media_type.empty() || !(media::is_index(m.media_type) || media::is_manifest(m.media_type)))
    m.media_type = lists ? media::oci_index : media::oci_manifest;
  if (lists != media::is_index(m.media_type)) return bad("content does not fit media type " + m.media_type);
  m.is_index = lists;
  m.annotations = map_of(j, "annotations");
  auto list = [&](const char* name, std::vector<descriptor>& out, std::size_t limit) -> status {
    auto it = j.find(name);
    if (it == j.end() || it->is_null()) return {};
    if (!it->is_array()) return bad(std::string(name) + " is no list");
    if (it->size() > limit) return bad("more than " + std::to_string(limit) + " " + name);
    for (const auto& e : *it) {
      KILN_TRY(descriptor d, parse_descriptor(e));
      out.push_back(std::move(d));
    }
    return {};
  };
  if (lists) {
    KILN_CHECK(list("manifests", m.entries, configs::max_index_entries));
  } else {
    KILN_CHECK(list("layers", m.layers, configs::max_image_layers));
    KILN_TRY(m.config, parse_descriptor(j.contains("config") ? j["config"] : json()));
  }
  return m;
}

nlohmann::ordered_json platform_json(const platform& p) {
  nlohmann::ordered_json j;
  j["architecture"] = p.architecture;
  j["os"] = p.os;
  if (!p.os_version.empty()) j["os.version"] = p.os_version;
  if (!p.os_features.empty()) j["os.features"] = p.os_features;
  if (!p.variant.empty()) j["variant"] = p.variant;
  return j;
}

nlohmann::ordered_json descriptor_json(const descriptor& d) {
  nlohmann::ordered_json j;
  j["mediaType"] = d.media_type;
  j["digest"] = d.digest.str();
  j["size"] = d.size;
  if (!d.urls.empty()) j["urls"] = d.urls;
  if (!d.annotations.empty()) j["annotations"] = d.annotations;
  if (d.platform) j["platform"] = platform_json(*d.platform);
  if (!d.artifact_type.empty()) j["artifactType"] = d.artifact_type;
  return j;
}

bool is_attestation(const descriptor& d) {
  if (auto it = d.annotations.find("vnd.docker.reference.type"); it != d.annotations.end())
    return it->second == "attestation-manifest";
  return d.platform && d.platform->os == "unknown" && d.platform->architecture == "unknown";
}

const descriptor* choose_platform(const manifest& index, const platform& wanted) {
  const descriptor* best = nullptr;
  int best_rank = 0;
  for (const auto& d : index.entries) {
    if (is_attestation(d)) continue;
    if (!media::is_manifest(d.media_type) && !media::is_index(d.media_type)) continue;
    // An entry that names no platform serves any, worse than one that does.
    int rank = d.platform ? match_rank(normalize(wanted), normalize(*d.platform)) : 1 << 20;
    if (rank < 0 || (best && rank >= best_rank)) continue;
    best = &d;
    best_rank = rank;
  }
  return best;
}

digest chain_id(const std::vector<digest>& diff_ids) {
  digest chain;
  for (const auto& d : diff_ids) chain = chain ? sha256(chain.str() + " " + d.str()) : d;
  return chain;
}

result<std::vector<digest>> diff_ids_of(const json& config) {
  std::vector<digest> out;
  auto rootfs = config.find("rootfs");
  if (rootfs == config.end() || !rootfs->is_object()) return out;
  auto ids = rootfs->find("diff_ids");
  if (ids == rootfs->end() || ids->is_null()) return out;
  if (!ids->is_array() || ids->size() > configs::max_image_layers)
    return make_error(errc::invalid_argument, "invalid image config: rootfs.diff_ids");
  for (const auto& id : *ids) {
    auto d = digest::parse(text_value(id));
    if (!d.ok())
      return make_error(errc::invalid_argument,
                        "invalid image config: rootfs.diff_ids: " + d.error().message);
    out.push_back(*std::move(d));
  }
  return out;
}

}  // namespace kiln::distribution
