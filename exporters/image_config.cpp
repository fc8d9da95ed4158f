#include "exporters/image_config.hpp"

#include <algorithm>

#include "base/json_text.hpp"
#include "base/time_text.hpp"
#include "distribution/image_json.hpp"
#include "distribution/media_types.hpp"

namespace kiln::exporters {
namespace {

namespace media = distribution::media;
using json = nlohmann::json;
constexpr std::int64_t second = 1'000'000'000;

std::string text_of(const ordered_json& j, const char* name) { return text_member(j, name); }

error bad(const std::string& why) {
  return make_error(errc::invalid_argument, "invalid image config for export: " + why);
}

/// One history entry, as the OCI specification has it.
struct history_entry {
  std::optional<std::int64_t> created;
  std::string created_text;  // as it was written, to keep its form
  std::string created_by, author, comment;
  bool empty_layer = false;

  bool operator==(const history_entry&) const = default;
  void set_created(std::optional<std::int64_t> t) {
    created = t;
    created_text = t ? format_rfc3339(*t) : "";
  }
};

result<std::vector<history_entry>> parse_history(const ordered_json& config) {
  std::vector<history_entry> out;
  auto it = config.find("history");
  if (it == config.end() || it->is_null()) return out;
  if (!it->is_array()) return bad("history is no list");
  for (const auto& h : *it) {
    if (!h.is_object()) return bad("history entry is no object");
    history_entry e;
    e.created_text = text_of(h, "created");
    if (!e.created_text.empty()) {
      e.created = parse_rfc3339_clamped(e.created_text);
      if (!e.created) return bad("history entry created at \"" + e.created_text + "\"");
    }
    e.created_by = text_of(h, "created_by");
    e.author = text_of(h, "author");
    e.comment = text_of(h, "comment");
    e.empty_layer = h.contains("empty_layer") && true_value(h["empty_layer"]);
    out.push_back(std::move(e));
  }
  return out;
}

ordered_json history_json(const std::vector<history_entry>& history) {
  ordered_json out = ordered_json::array();
  for (const auto& h : history) {
    ordered_json j = ordered_json::object();
    if (h.created) j["created"] = h.created_text;
    if (!h.created_by.empty()) j["created_by"] = h.created_by;
    if (!h.author.empty()) j["author"] = h.author;
    if (!h.comment.empty()) j["comment"] = h.comment;
    if (h.empty_layer) j["empty_layer"] = true;
    out.push_back(std::move(j));
  }
  return out;
}

/// Makes the history account for every layer, and every entry have a time.
void normalize_history(std::vector<history_entry>& history, const std::vector<layer_meta>& layers) {
  std::size_t counted = 0;
  for (auto& h : history) {
    if (!h.empty_layer && counted == layers.size()) h.empty_layer = true;  // accounts for no layer there is
    if (!h.empty_layer) ++counted;
  }
  for (std::size_t i = counted; i < layers.size(); ++i) {
    history_entry h;
    h.set_created(layers[i].created_at_ns);
    h.created_by = layers[i].description.empty() ? "created by buildkit" : layers[i].description;
    h.comment = "buildkit.exporter.image.v0";
    history.push_back(std::move(h));
  }
  std::size_t layer = 0;
  for (auto& h : history) {
    if (h.empty_layer) continue;
    if (!h.created) h.set_created(layers[layer].created_at_ns);
    ++layer;
  }
  // Entries without a time get that of the first layer that is new, else of the last one known.
  const history_entry* created = nullptr;
  bool missing = false;
  for (const auto& h : history) {
    if (h.created) {
      created = &h;
      if (missing) break;
    } else {
      missing = true;
    }
  }
  if (created == nullptr) return;
  history_entry time = *created;
  missing = false;
  for (auto& h : history) {
    if (h.created) {
      if (missing) time = h;
    } else {
      missing = true;
      h.created = time.created;
      h.created_text = time.created_text;
    }
  }
}

/// Times after the epoch become the epoch, but for what the base image brought.
void clamp_history(std::vector<history_entry>& history, const std::vector<history_entry>& base,
                   std::int64_t epoch_ns) {
  bool diverged = false;
  for (std::size_t i = 0; i < history.size(); ++i) {
    if (!diverged && i < base.size() && history[i] == base[i]) continue;
    diverged = true;
    if (!history[i].created || *history[i].created > epoch_ns) history[i].set_created(epoch_ns);
  }
}

ordered_json default_config() {
  platform p = normalize(host_platform());
  ordered_json j;
  j["architecture"] = p.architecture;
  if (!p.variant.empty()) j["variant"] = p.variant;
  j["os"] = p.os;
  ordered_json config;
  config["Env"] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"};
  config["WorkingDir"] = "/";
  j["config"] = std::move(config);
  return j;
}

}  // namespace

result<std::string> patch_image_config(std::string_view config, const config_patch& patch) {
  ordered_json j = default_config();
  if (!config.empty()) {
    auto parsed = parse_json<ordered_json>(config);
    if (!parsed.ok()) return std::move(parsed).error().with_context("invalid image config for export");
    j = *std::move(parsed);
  }
  if (j.is_null()) return make_error(errc::invalid_argument, "invalid null image config for export");
  if (!j.is_object()) return bad("not a JSON object");
  if (text_of(j, "os").empty()) return bad("missing os");
  if (text_of(j, "architecture").empty()) return bad("missing architecture");

  KILN_TRY(auto history, parse_history(j));
  normalize_history(history, patch.layers);

  ordered_json rootfs;
  rootfs["type"] = "layers";
  rootfs["diff_ids"] = ordered_json::array();
  for (const auto& d : patch.diff_ids) rootfs["diff_ids"].push_back(d.str());
  j["rootfs"] = std::move(rootfs);

  if (patch.epoch) {
    std::vector<history_entry> base;
    if (!patch.base_config.empty()) {
      auto b = json_or_null<ordered_json>(patch.base_config);
      if (!b.is_object()) return make_error(errc::invalid_argument, "failed to unmarshal base image config");
      KILN_TRY(base, parse_history(b));
    }
    clamp_history(history, base, *patch.epoch * second);
  }
  j["history"] = history_json(history);

  if (j.contains("created") && patch.epoch && j["created"].is_string()) {
    auto t = parse_rfc3339_clamped(text_of(j, "created"));
    if (!t)
      return make_error(errc::invalid_argument,
                        "failed to unmarshal creation time \"" + text_of(j, "created") + "\"");
    if (*t > *patch.epoch * second) j["created"] = format_rfc3339(*patch.epoch * second);
  }
  if (!j.contains("created")) {
    j["created"] = nullptr;
    for (const auto& h : history)
      if (h.created) j["created"] = h.created_text;
  }
  if (!patch.inline_cache.empty()) {
    auto cache = parse_json<ordered_json>(patch.inline_cache);
    if (!cache.ok())
      return std::move(cache).error().with_context("invalid image config for export: inline cache");
    j["moby.buildkit.cache.v0"] = *std::move(cache);
  }
  // Top-level keys are sorted, everything below keeps its order: what a Go map of raw messages gives.
  std::vector<std::string> keys;
  for (const auto& [k, v] : j.items()) keys.push_back(k);
  std::sort(keys.begin(), keys.end());
  ordered_json sorted = ordered_json::object();
  for (const auto& k : keys) sorted[k] = std::move(j[k]);
  return go_json(sorted);
}

result<std::optional<platform>> platform_of_config(std::string_view config) {
  auto parsed = parse_json(config);
  if (!parsed.ok()) return std::move(parsed).error().with_context("invalid image config for export");
  const auto& j = *parsed;
  if (j.is_null()) return std::optional<platform>();  // refused where it is exported
  if (!j.is_object()) return bad("not a JSON object");
  platform p = distribution::parse_platform_json(j);
  if (p.os.empty() && p.architecture.empty()) return std::optional<platform>();
  if (p.os.empty() || p.architecture.empty())
    return make_error(errc::invalid_argument,
                      "invalid image config: os and architecture must be specified together");
  return std::optional<platform>(normalize(p));
}

std::string manifest_json(std::string_view media_type, const descriptor& config,
                          const std::vector<descriptor>& layers,
                          const std::map<std::string, std::string>& annotations) {
  ordered_json j;
  j["schemaVersion"] = 2;
  j["mediaType"] = media_type;
  j["config"] = distribution::descriptor_json(config);
  j["layers"] = ordered_json::array();
  for (const auto& l : layers) j["layers"].push_back(distribution::descriptor_json(l));
  if (!annotations.empty()) j["annotations"] = annotations;
  return go_json(j, 2);
}

std::string index_json(std::string_view media_type, const std::vector<descriptor>& manifests,
                       const std::map<std::string, std::string>& annotations) {
  ordered_json j;
  j["schemaVersion"] = 2;
  j["mediaType"] = media_type;
  j["manifests"] = ordered_json::array();
  for (const auto& m : manifests) j["manifests"].push_back(distribution::descriptor_json(m));
  if (!annotations.empty()) j["annotations"] = annotations;
  return go_json(j, 2);
}

std::string convert_layer_type(std::string_view media_type, bool oci, bool keep_nondistributable) {
  struct row {
    std::string_view oci, docker, oci_foreign, docker_foreign;
  };
  static constexpr row rows[] = {
      {media::oci_layer, media::docker_layer, media::oci_nondist, media::docker_foreign},
      {media::oci_layer_gzip, media::docker_layer_gzip, media::oci_nondist_gzip, media::docker_foreign_gzip},
      {media::oci_layer_zstd, media::docker_layer_zstd, media::oci_nondist_zstd, media::oci_nondist_zstd},
  };
  for (const auto& r : rows) {
    bool normal = media_type == r.oci || media_type == r.docker;
    bool foreign = media_type == r.oci_foreign || media_type == r.docker_foreign;
    if (!normal && !foreign) continue;
    if (foreign && keep_nondistributable) return std::string(oci ? r.oci_foreign : r.docker_foreign);
    return std::string(oci ? r.oci : r.docker);
  }
  return std::string(media_type);
}

}  // namespace kiln::exporters
