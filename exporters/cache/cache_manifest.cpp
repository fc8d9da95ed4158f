// From the manifest a cache import names to its key graph. Source: cache/remotecache/import.go.
#include <spdlog/spdlog.h>

#include "base/base64.hpp"
#include "base/json_text.hpp"
#include "configs/registry.hpp"
#include "configs/remote_cache.hpp"
#include "exporters/cache/cache_importer.hpp"
#include "exporters/cache/request_text.hpp"
#include "distribution/image_json.hpp"
#include "distribution/media_types.hpp"

namespace kiln::exporters {
namespace {

namespace rc = solver::remote_cache;
using json = nlohmann::json;

std::string text_of(const json& j, const char* name) { return text_member(j, name); }

/// "created" and "created_by" of the history entries that made layers, in order.
std::vector<std::pair<std::string, std::string>> layer_history(const json& config) {
  std::vector<std::pair<std::string, std::string>> out;
  auto history = config.find("history");
  if (history == config.end() || !history->is_array()) return out;
  for (const auto& h : *history) {
    if (!h.is_object()) continue;
    auto empty = h.find("empty_layer");
    if (empty != h.end() && true_value(*empty)) continue;
    out.emplace_back(text_of(h, "created"), text_of(h, "created_by"));
  }
  return out;
}

class manifest_reader {
 public:
  manifest_reader(const content_reader& read, const std::function<void(descriptor&)>& annotate,
                  const job_context& job)
      : read_(read), annotate_(annotate), job_(job) {}

  result<rc::imported_graph> run(const descriptor& root) {
    KILN_TRY(std::string bytes, read_small(root));
    KILN_TRY(auto m, distribution::parse_manifest(bytes, root.media_type));
    job_.progress->progress("inferred cache manifest type: " + m.media_type, 0, 0, true);
    std::map<digest, descriptor> layers;
    const descriptor* config = nullptr;
    for (auto& d : m.is_index ? m.entries : m.layers) {
      if (m.is_index && d.media_type == rc::config_media_type) {
        config = &d;
        continue;
      }
      if (annotate_) annotate_(d);
      layers[d.digest] = d;
    }
    if (!m.is_index && m.config.media_type == rc::config_media_type) config = &m.config;
    rc::imported_graph graph;
    if (config == nullptr) {
      KILN_CHECK(add_images(m, graph, 0));
      return graph;
    }
    KILN_TRY(std::string text, read_small(*config));
    KILN_TRY(auto parsed, rc::parse_config(text));
    KILN_CHECK(graph.add(parsed, layers));
    return graph;
  }

 private:
  result<std::string> read_small(const descriptor& d) {
    if (d.size > configs::max_cache_blob_size)
      return make_error(errc::resource_exhausted, "blob " + d.digest.str() + " is too large (" +
                                                      std::to_string(d.size) + " > " +
                                                      std::to_string(configs::max_cache_blob_size) + ")");
    return read_(d, configs::max_cache_blob_size);
  }

  status add_images(const distribution::manifest& m, rc::imported_graph& graph, int depth) {
    KILN_CHECK(job_.check());
    if (!m.is_index) return add_image(m, graph);
    if (depth > configs::max_inline_index_depth)
      return make_error(errc::invalid_argument, "indexes are nested too deeply");
    for (const auto& d : m.entries) {
      bool image =
          distribution::media::is_manifest(d.media_type) || distribution::media::is_index(d.media_type);
      if (!image || distribution::is_attestation(d)) continue;
      if (++images_ > configs::max_inline_manifests)
        return make_error(
            errc::resource_exhausted,
            "more than " + std::to_string(configs::max_inline_manifests) + " images in one cache import");
      KILN_TRY(std::string bytes, read_(d, configs::max_manifest_size));
      KILN_TRY(auto inner, distribution::parse_manifest(bytes, d.media_type));
      KILN_CHECK(add_images(inner, graph, depth + 1));
    }
    return {};
  }

  status add_image(distribution::manifest m, rc::imported_graph& graph) {
    if (m.config.digest.empty() || m.layers.empty()) return {};
    KILN_TRY(std::string text, read_(m.config, configs::max_image_config_size));
    auto read = parse_json(text);
    if (!read.ok()) return std::move(read).error().with_context("invalid image config");
    const auto& config = *read;
    if (!config.is_object())
      return make_error(errc::invalid_argument, "invalid image config: no JSON object");
    auto inline_cache = text_of(config, "moby.buildkit.cache.v0");
    if (inline_cache.empty()) return {};
    auto diff_ids = distribution::diff_ids_of(config);
    if (!diff_ids.ok() || diff_ids->size() != m.layers.size()) {
      spdlog::warn("cache import: image {} has a config that does not fit its manifest",
                   m.config.digest.str());
      return {};
    }
    auto records = base64_decode(inline_cache);
    if (!records) return make_error(errc::invalid_argument, "invalid inline cache: not base64");
    auto history = layer_history(config);
    std::vector<digest> blobs;
    std::map<digest, descriptor> layers;
    for (std::size_t i = 0; i < m.layers.size(); ++i) {
      auto& d = m.layers[i];
      if (annotate_) annotate_(d);
      d.annotations[rc::annotation_diff_id] = (*diff_ids)[i].str();
      if (i < history.size()) {
        if (!history[i].first.empty()) d.annotations[rc::annotation_created_at] = history[i].first;
        if (!history[i].second.empty()) d.annotations[rc::annotation_description] = history[i].second;
      }
      blobs.push_back(d.digest);
      layers[d.digest] = d;
    }
    KILN_TRY(auto parsed, rc::parse_inline_records(*records, blobs));
    return graph.add(parsed, layers);
  }

  const content_reader& read_;
  const std::function<void(descriptor&)>& annotate_;
  const job_context& job_;
  std::size_t images_ = 0;
};

}  // namespace

result<rc::imported_graph> read_cache_manifest(const descriptor& root, const content_reader& read,
                                               const std::function<void(descriptor&)>& annotate,
                                               const job_context& job) {
  return manifest_reader(read, annotate, job).run(root);
}

}  // namespace kiln::exporters
