#include "workers/sources/image_reader.hpp"

#include <charconv>

#include "base/json_text.hpp"
#include "configs/registry.hpp"
#include "distribution/image_json.hpp"
#include "distribution/media_types.hpp"
#include "store/archive/codec.hpp"

namespace kiln::workers {
namespace {

namespace media = distribution::media;
constexpr int max_index_depth = 4;

/// Descends from an index to the manifest of the platform.
result<distribution::manifest> find_manifest(image_origin& origin, descriptor at, const platform& wanted,
                                             descriptor& found) {
  for (int depth = 0; depth <= max_index_depth; ++depth) {
    KILN_TRY(std::string bytes, origin.read(at, configs::max_manifest_size));
    KILN_TRY(distribution::manifest m, distribution::parse_manifest(bytes, at.media_type));
    if (!m.is_index) {
      at.media_type = m.media_type;
      found = std::move(at);
      return m;
    }
    const descriptor* best = distribution::choose_platform(m, wanted);
    if (best == nullptr)
      return make_error(errc::not_found,
                        "no match for platform in manifest " + at.digest.str() + ": not found");
    at = descriptor(*best);
  }
  return make_error(errc::invalid_argument, "image indexes are nested too deeply");
}

}  // namespace

result<resolved_image> read_image(image_origin& origin, const descriptor& root, const platform& wanted,
                                  std::optional<int> layer_limit) {
  resolved_image out;
  out.root = root;
  KILN_TRY(distribution::manifest m, find_manifest(origin, root, wanted, out.manifest));
  out.config_blob = m.config;
  KILN_TRY(out.config, origin.read(m.config, configs::max_image_config_size));
  auto parsed = parse_json(out.config);
  if (!parsed.ok()) return std::move(parsed).error().with_context("image config " + m.config.digest.str());
  const auto& config = *parsed;
  if (!config.is_object())
    return make_error(errc::invalid_argument,
                      "image config " + m.config.digest.str() + " is not a JSON object");
  KILN_TRY(auto diff_ids, distribution::diff_ids_of(config));
  if (diff_ids.size() != m.layers.size())
    return make_error(errc::invalid_argument,
                      "mismatched image rootfs and manifest layers: " + std::to_string(diff_ids.size()) +
                          " diff ids, " + std::to_string(m.layers.size()) + " layers");
  if (layer_limit) {
    if (static_cast<std::size_t>(*layer_limit) > m.layers.size())
      return make_error(errc::invalid_argument, "layer limit " + std::to_string(*layer_limit) +
                                                    " is greater than the number of layers in the image " +
                                                    std::to_string(m.layers.size()));
    m.layers.resize(static_cast<std::size_t>(*layer_limit));
    diff_ids.resize(static_cast<std::size_t>(*layer_limit));
  }
  for (std::size_t i = 0; i < m.layers.size(); ++i) {
    if (!store::compression_of_media_type(m.layers[i].media_type))
      return make_error(errc::invalid_argument, "layer " + m.layers[i].digest.str() + " has media type " +
                                                    m.layers[i].media_type +
                                                    ", which is no file system layer");
    out.layers.push_back({std::move(m.layers[i]), diff_ids[i]});
  }
  out.chain = distribution::chain_id(diff_ids);
  return out;
}

result<store::ref> layers_as_ref(store::ref_store& store, const resolved_image& image,
                                 std::shared_ptr<store::blob_provider> provider,
                                 const store::record_options& options) {
  store::ref current;
  for (const auto& layer : image.layers) {
    KILN_TRY(current, store.layer(current, layer, provider, options));
  }
  return current;
}

std::string manifest_key(const kiln::digest& root, const platform& p, std::optional<int> layer_limit) {
  nlohmann::ordered_json j;
  j["Digest"] = root.str();
  j["OS"] = p.os;
  j["Arch"] = p.architecture;
  if (!p.variant.empty()) j["Variant"] = p.variant;
  if (!p.os_version.empty()) j["OSVersion"] = p.os_version;
  if (!p.os_features.empty()) j["OSFeatures"] = p.os_features;
  if (layer_limit) j["Limit"] = *layer_limit;
  return sha256(json_text(j)).str();
}

result<std::optional<int>> parse_layer_limit(const std::string& text) {
  if (text.empty()) return std::optional<int>();
  int n = 0;
  auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (ec != std::errc() || end != text.data() + text.size() || n <= 0)
    return make_error(errc::invalid_argument, "invalid layer limit " + text);
  return std::optional<int>(n);
}

result<store::record_type> parse_image_record_type(const std::string& text) {
  if (text.empty() || text == "regular") return store::record_type::regular;
  if (text == "internal") return store::record_type::internal;
  if (text == "frontend") return store::record_type::frontend;
  return make_error(errc::invalid_argument, "invalid record type " + text);
}

}  // namespace kiln::workers
