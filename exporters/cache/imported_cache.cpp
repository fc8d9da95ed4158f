#include "exporters/cache/imported_cache.hpp"

#include "base/time_text.hpp"
#include "configs/remote_cache.hpp"
#include "exporters/layers.hpp"
#include "solver/remote_cache/chains.hpp"

namespace kiln::exporters {
namespace {

namespace rc = solver::remote_cache;

std::string annotation(const descriptor& d, const char* name) {
  auto it = d.annotations.find(name);
  return it == d.annotations.end() ? std::string() : it->second;
}

/// What remains with the layer's record: the annotations that say what it is are kept as fields.
descriptor bare(descriptor d) {
  for (const char* name : {rc::annotation_diff_id, rc::annotation_created_at, rc::annotation_description})
    d.annotations.erase(name);
  d.media_type = rc::oci_layer_type(d.media_type);
  return d;
}

}  // namespace

result<store::ref> imported_cache::load(std::string_view result_id, store::ref_store& store,
                                        const job_context& job) const {
  auto layers = graph_.layers(result_id);
  if (layers.empty())
    return make_error(errc::not_found, "cache import " + id_ + " has no result " + std::string(result_id));
  std::vector<store::blob_hold> holds;  // until their records do
  for (const auto& layer : layers) holds.push_back(store.blobs().hold(layer.digest));
  if (!lazy_ && provider_)
    KILN_CHECK(in_parallel(layers.size(), configs::cache_upload_parallelism, [&](std::size_t i) {
      return provider_->fetch(bare(layers[i]), store.blobs(), job);
    }));
  store::ref at;
  for (auto& layer : layers) {
    store::layer_blob blob;
    auto diff_id = annotation(layer, rc::annotation_diff_id);
    bool plain = store::compression_of_media_type(layer.media_type) == store::compression::uncompressed;
    if (diff_id.empty() && plain) diff_id = layer.digest.str();
    auto parsed = digest::parse(diff_id);
    if (!parsed.ok())
      return make_error(errc::invalid_argument, "cache layer " + layer.digest.str() + " has no valid " +
                                                    rc::annotation_diff_id + " annotation");
    blob.diff_id = *parsed;
    store::record_options options;
    options.description = annotation(layer, rc::annotation_description);
    if (options.description.empty()) options.description = "imported " + layer.digest.str() + " from " + id_;
    auto created = parse_rfc3339(annotation(layer, rc::annotation_created_at));
    if (created && *created != no_time) options.created_at_ns = *created;
    blob.blob = bare(std::move(layer));
    KILN_TRY(at, store.layer(at, std::move(blob), provider_, options));
  }
  return at;
}

}  // namespace kiln::exporters
