#include "exporters/attributes.hpp"

#include <algorithm>

#include "base/numbers.hpp"
#include "configs/compatibility.hpp"
#include "solver/error_details.hpp"

namespace kiln::exporters {
namespace {

std::string not_integer(const std::string& text) {
  return "strconv.ParseInt: parsing \"" + text + "\": invalid syntax";
}

/// "annotation-index-descriptor[linux/amd64].key" taken apart.
struct annotation_key {
  std::string type, platform, key;
};

/// Nothing when the text is no annotation key at all.
std::optional<annotation_key> split_annotation(std::string_view text) {
  constexpr std::string_view prefix = "annotation";
  if (!text.starts_with(prefix)) return std::nullopt;
  text.remove_prefix(prefix.size());
  annotation_key out;
  if (text.starts_with('-')) {
    std::size_t n = 1;
    while (n < text.size() && ((text[n] >= 'a' && text[n] <= 'z') || text[n] == '-')) ++n;
    if (n == 1) return std::nullopt;
    out.type = text.substr(1, n - 1);
    text.remove_prefix(n);
  }
  if (text.starts_with('[')) {
    std::size_t end = text.find(']');
    if (end == text.npos || end < 2) return std::nullopt;
    out.platform = text.substr(1, end - 1);
    bool ok = std::all_of(out.platform.begin(), out.platform.end(), [](unsigned char c) {
      return std::isalnum(c) || c == '_' || c == '/' || c == '-';
    });
    if (!ok) return std::nullopt;
    text.remove_prefix(end + 1);
  }
  if (!text.starts_with('.') || text.size() < 2) return std::nullopt;
  out.key = text.substr(1);
  if (out.key.find_first_of(" \t\n\r\f\v") != std::string::npos) return std::nullopt;
  return out;
}

/// Docker has a media type for zstd layers but none for eStargz. Source: compression.OnlySupportOCITypes.
status check_media_types(const image_options& o) {
  if (o.oci()) return {};
  if (o.compression.kind == store::compression::estargz)
    return make_error(errc::invalid_argument,
                      "exporter option \"compression=" + std::string(store::to_string(o.compression.kind)) +
                          "\" conflicts with \"oci-mediatypes=false\"");
  if (o.oci_artifact.value_or(false))
    return make_error(errc::invalid_argument,
                      "exporter option \"oci-artifact=true\" conflicts with \"oci-mediatypes=false\"");
  return {};
}

status read_compression(attributes& attrs, compression_options& out) {
  if (auto it = attrs.find("compression"); it != attrs.end()) {
    KILN_TRY(out.kind, store::parse_compression(it->second));
    attrs.erase(it);
  }
  if (auto it = attrs.find("force-compression"); it != attrs.end()) {
    auto force = parse_bool("force-compression", it->second, true);
    if (!force.ok())
      return make_error(errc::invalid_argument,
                        "non-bool value " + it->second + " specified for force-compression");
    out.force = *force;
    attrs.erase(it);
  }
  if (auto it = attrs.find("compression-level"); it != attrs.end()) {
    auto level = parse_int(it->second);
    if (!level)
      return make_error(
          errc::invalid_argument,
          "non-integer value " + it->second + " specified for compression-level: " + not_integer(it->second));
    std::int64_t most = out.kind == store::compression::zstd ? 22 : 9;
    if (*level < 0 || *level > most)
      return make_error(errc::invalid_argument, "compression-level " + it->second + " is out of range for " +
                                                    std::string(store::to_string(out.kind)) + " (0 to " +
                                                    std::to_string(most) + ")");
    out.level = static_cast<int>(*level);
    attrs.erase(it);
  }
  return {};
}

}  // namespace

result<bool> parse_bool(std::string_view key, const std::string& value, std::optional<bool> when_empty) {
  if (value.empty() && when_empty) return *when_empty;
  if (auto parsed = kiln::parse_bool(value)) return *parsed;
  return make_error(errc::invalid_argument, "non-bool value specified for " + std::string(key) +
                                                ": strconv.ParseBool: parsing \"" + value +
                                                "\": invalid syntax");
}

result<epoch> parse_epoch(std::string_view key, const std::string& value) {
  if (value.empty()) return epoch{};
  auto seconds = parse_int(value);
  if (!seconds)
    return make_error(errc::invalid_argument, "invalid " + std::string(key) + ": " + not_integer(value));
  return epoch{*seconds};
}

result<std::optional<std::int64_t>> epoch_from_metadata(const attributes& metadata,
                                                        const std::string& platform_id) {
  auto it = platform_id.empty() ? metadata.end() : metadata.find("source.date.epoch/" + platform_id);
  if (it == metadata.end()) it = metadata.find("source.date.epoch");
  if (it == metadata.end()) return std::optional<std::int64_t>();
  auto e = parse_epoch("", it->second);
  if (!e.ok())
    return std::move(e).error().with_context("invalid SOURCE_DATE_EPOCH from frontend: \"" + it->second +
                                             "\"");
  return e->seconds;
}

status take_annotations(attributes& attrs, annotation_group& out) {
  for (auto it = attrs.begin(); it != attrs.end();) {
    auto key = split_annotation(it->first);
    if (!key) {
      ++it;
      continue;
    }
    std::string id;
    if (!key->platform.empty()) {
      auto p = parse_platform(key->platform);
      if (!p.ok()) return std::move(p).error();
      id = format_platform(*p);
    }
    annotation_set& set = out[id];
    if (key->type.empty() || key->type == "manifest") set.manifest[key->key] = it->second;
    else if (key->type == "manifest-descriptor") set.manifest_descriptor[key->key] = it->second;
    else if (key->type == "index") set.index[key->key] = it->second;
    else if (key->type == "index-descriptor") set.index_descriptor[key->key] = it->second;
    else return make_error(errc::invalid_argument, "unrecognized annotation type " + key->type);
    it = attrs.erase(it);
  }
  return {};
}

annotation_set annotations_for(const annotation_group& group, const platform* p) {
  annotation_set out;
  auto add = [](attributes& to, const attributes& from) {
    for (const auto& [k, v] : from) to[k] = v;
  };
  for (const auto& [id, set] : group) {
    add(out.index, set.index);
    add(out.index_descriptor, set.index_descriptor);
  }
  for (const auto& id : {std::string(), p ? format_platform(*p) : std::string()}) {
    auto it = group.find(id);
    if (it == group.end()) continue;
    add(out.manifest, it->second.manifest);
    add(out.manifest_descriptor, it->second.manifest_descriptor);
  }
  return out;
}

status image_options::settle(int compatibility_version, bool with_attestations) {
  bool is_current = compatibility_version >= configs::compatibility::v0_31;
  if (!oci_types) oci_types = is_current || with_attestations;
  if (!oci_artifact) oci_artifact = is_current && *oci_types;
  return check_media_types(*this);
}

status check_compatibility(std::string_view exporter, const image_options& options,
                           int compatibility_version) {
  if (compatibility_version != configs::compatibility::v0_13 ||
      options.compression.kind != store::compression::zstd)
    return {};
  return solver::unsupported_feature(compatibility_version,
                                     std::string(exporter) + " exporter compression=zstd");
}

result<image_options> take_image_options(attributes& attrs) {
  image_options out;
  KILN_CHECK(take_annotations(attrs, out.annotations));
  if (auto it = attrs.find("source-date-epoch"); it != attrs.end()) {
    KILN_TRY(out.date, parse_epoch(it->first, it->second));
    attrs.erase(it);
  }
  KILN_CHECK(read_compression(attrs, out.compression));
  auto flag = [&](const char* key, auto& target) -> status {
    auto it = attrs.find(key);
    if (it == attrs.end()) return {};
    KILN_TRY(target, parse_bool(key, it->second));
    attrs.erase(it);
    return {};
  };
  KILN_CHECK(flag("oci-mediatypes", out.oci_types));
  KILN_CHECK(flag("oci-artifact", out.oci_artifact));
  KILN_CHECK(flag("attestation-inline", out.inline_attestations));
  KILN_CHECK(flag("prefer-nondist-layers", out.prefer_nondistributable));
  KILN_CHECK(flag("rewrite-timestamp", out.rewrite_timestamp));
  if (auto it = attrs.find("name"); it != attrs.end()) {
    out.name = it->second;
    attrs.erase(it);
  }
  KILN_CHECK(check_media_types(out));
  return out;
}

}  // namespace kiln::exporters
