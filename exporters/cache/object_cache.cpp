#include "exporters/cache/object_store.hpp"

#include <ctime>

#include "base/text.hpp"
#include "base/time_text.hpp"
#include "configs/remote_cache.hpp"
#include "exporters/cache/cache_attributes.hpp"
#include "exporters/cache/http_object_store.hpp"
#include "exporters/image_writer.hpp"
#include "exporters/layers.hpp"
#include "store/blobs/download_blob.hpp"

namespace kiln::exporters {
namespace {

namespace rc = solver::remote_cache;

class object_exporter final : public cache_exporter {
 public:
  object_exporter(cache_options options, object_cache_settings settings, exporter_resources resources)
      : options_(options), settings_(std::move(settings)), resources_(resources) {
    options_.compression = {};
  }
  std::string name() const override { return settings_.vertex_name; }
  const cache_options& options() const override { return options_; }

  result<std::map<std::string, std::string>> run(const cache_content& content,
                                                 const job_context& job) override {
    KILN_TRY(auto objects, settings_.open(job));
    auto config = content.records.config;
    std::vector<const descriptor*> blobs;
    for (const auto& [d, blob] : content.records.layers) blobs.push_back(&blob);
    KILN_CHECK(in_parallel(blobs.size(), settings_.parallelism,
                           [&](std::size_t i) { return upload(*objects, *blobs[i], content, job); }));
    for (auto& layer : config.layers) {
      const auto& d = content.records.layers.at(layer.blob);
      rc::layer_annotations a;
      a.media_type = d.media_type;
      a.size = d.size;
      auto diff = d.annotations.find(rc::annotation_diff_id);
      if (diff == d.annotations.end())
        return make_error(errc::invalid_argument, "invalid descriptor without uncompressed annotation");
      KILN_TRY(a.diff_id, digest::parse(diff->second));
      if (auto created = d.annotations.find(rc::annotation_created_at); created != d.annotations.end())
        a.created_at_ns = parse_rfc3339(created->second).value_or(no_time);
      layer.annotations = std::move(a);
    }
    auto text = rc::to_json(config);
    for (const auto& name : settings_.export_names) {
      auto written = objects->put_manifest(settings_.manifest_key(name), text);
      if (!written.ok()) return std::move(written).error().with_context("error writing manifest: " + name);
    }
    return std::map<std::string, std::string>{};
  }

 private:
  status upload(object_store& objects, const descriptor& blob, const cache_content& content,
                const job_context& job) {
    auto key = settings_.blob_key(blob.digest);
    auto found = objects.find(key);
    if (!found.ok()) return std::move(found).error().with_context("failed to check file presence in cache");
    if (*found) {
      bool old = settings_.touch_after && (*found)->modified_s &&
                 std::chrono::seconds(std::time(nullptr) - *(*found)->modified_s) > *settings_.touch_after;
      if (!old) return {};
      auto touched = objects.touch(key, **found);
      return touched.ok() ? status()
                          : status(std::move(touched).error().with_context("failed to touch file"));
    }
    step writing(job, "writing layer " + blob.digest.str());
    KILN_CHECK(content.ensure(blob, job));
    object_body body{blob.size, blob.digest, [&](std::int64_t offset) {
                       return resources_.store->blobs().read(blob.digest, offset);
                     }};
    auto written = objects.put(key, body);
    return written.ok() ? status()
                        : status(std::move(written).error().with_context("error writing layer blob"));
  }

  cache_options options_;
  object_cache_settings settings_;
  exporter_resources resources_;
};

class object_provider final : public store::blob_provider {
 public:
  explicit object_provider(object_cache_settings settings) : settings_(std::move(settings)) {}
  status fetch(const descriptor& blob, store::blob_store& into, const job_context& job) override {
    return store::download_blob(blob, into, job,
                                "cached blob " + blob.digest.str() + " is longer than its config says",
                                [&](std::int64_t offset, const store::byte_taker& take) -> status {
                                  KILN_TRY(auto objects, settings_.open(job));
                                  return objects->get(settings_.blob_key(blob.digest), offset, take);
                                });
  }

 private:
  object_cache_settings settings_;
};

class object_importer final : public cache_importer {
 public:
  object_importer(std::string id, object_cache_settings settings)
      : id_(std::move(id)), settings_(std::move(settings)) {}

  result<std::shared_ptr<imported_cache>> load(const job_context& job) override {
    KILN_TRY(auto objects, settings_.open(job));
    rc::imported_graph graph;
    for (const auto& name : settings_.import_names) KILN_CHECK(add(name, *objects, graph));
    return std::make_shared<imported_cache>(id_, std::move(graph),
                                            std::make_shared<object_provider>(settings_), true);
  }

 private:
  status add(const std::string& name, object_store& objects, rc::imported_graph& graph) {
    std::string text;
    auto got = objects.get_manifest(settings_.manifest_key(name), [&](std::string_view bytes) -> status {
      if (static_cast<std::int64_t>(text.size() + bytes.size()) > configs::max_cache_object_size)
        return make_error(
            errc::resource_exhausted,
            "cache config is larger than " + std::to_string(configs::max_cache_object_size) + " bytes");
      text += bytes;
      return {};
    });
    // A cache that nobody has written yet is an empty one.
    if (!got.ok()) return got.error().code == errc::not_found ? status() : got;
    KILN_TRY(auto config, rc::parse_config(text));
    std::map<digest, descriptor> layers;
    for (const auto& l : config.layers) {
      if (!l.annotations) return make_error(errc::invalid_argument, "cache layer with missing annotations");
      if (l.annotations->diff_id.empty())
        return make_error(errc::invalid_argument, "cache layer with missing diffid");
      descriptor d;
      d.media_type = l.annotations->media_type;
      d.digest = l.blob;
      d.size = l.annotations->size;
      d.annotations[rc::annotation_diff_id] = l.annotations->diff_id.str();
      if (l.annotations->created_at_ns != no_time)
        d.annotations[rc::annotation_created_at] = format_rfc3339(l.annotations->created_at_ns);
      layers[l.blob] = std::move(d);
    }
    return graph.add(config, layers);
  }

  std::string id_;
  object_cache_settings settings_;
};

}  // namespace

status object_store::put_manifest(const std::string& key, const std::string& text) {
  return put(key, text_body(text));
}

std::unique_ptr<cache_exporter> make_object_exporter(cache_options options, object_cache_settings settings,
                                                     exporter_resources resources) {
  return std::make_unique<object_exporter>(options, std::move(settings), resources);
}

std::unique_ptr<cache_importer> make_object_importer(std::string id, object_cache_settings settings) {
  return std::make_unique<object_importer>(std::move(id), std::move(settings));
}

std::vector<std::string> object_cache_names(const attributes& attrs) {
  auto it = attrs.find("name");
  if (it == attrs.end()) return {"buildkit"};
  return split(it->second, ';');
}

}  // namespace kiln::exporters
