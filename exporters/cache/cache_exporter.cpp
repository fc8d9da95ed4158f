#include "exporters/cache/cache_exporter.hpp"

#include <set>

#include "base/json_text.hpp"
#include "configs/remote_cache.hpp"
#include "exporters/cache/cache_attributes.hpp"
#include "exporters/cache/memory_blob.hpp"
#include "exporters/cache/object_store.hpp"
#include "exporters/image_writer.hpp"
#include "exporters/layers.hpp"
#include "distribution/client.hpp"
#include "distribution/image_json.hpp"
#include "distribution/media_types.hpp"
#include "store/blobs/session_content.hpp"

namespace kiln::exporters {
namespace {

namespace rc = solver::remote_cache;
namespace media = distribution::media;

/// Where the parts of a cache are written to.
class content_writer {
 public:
  virtual ~content_writer() = default;
  virtual status layer(const descriptor& d, const cache_content& content, const job_context& job) = 0;
  virtual status config(const descriptor& d, const std::string& bytes, const job_context& job) = 0;
  virtual status manifest(const descriptor& d, const std::string& bytes, const job_context& job) = 0;
};

descriptor describe(const std::string& bytes, std::string_view media_type) {
  descriptor d;
  d.media_type = media_type;
  d.digest = sha256(bytes);
  d.size = static_cast<std::int64_t>(bytes.size());
  return d;
}

status in_step(const job_context& job, const std::string& id, const char* failure,
               const std::function<status()>& f) {
  step one(job, id);
  auto s = f();
  if (!s.ok()) return std::move(s).error().with_context(failure);
  return s;
}

result<std::map<std::string, std::string>> write_cache(const cache_content& content, manifest_style style,
                                                       content_writer& out, const job_context& job) {
  std::vector<descriptor> blobs;
  for (const auto& [d, blob] : content.records.layers) blobs.push_back(blob);
  KILN_CHECK(in_parallel(blobs.size(), configs::cache_upload_parallelism, [&](std::size_t i) {
    return in_step(job, "writing layer " + blobs[i].digest.str(), "error writing layer blob",
                   [&] { return out.layer(blobs[i], content, job); });
  }));
  auto config_bytes = rc::to_json(content.records.config);
  auto config = describe(config_bytes, rc::config_media_type);
  KILN_CHECK(in_step(job, "writing config " + config.digest.str(), "error writing config blob",
                     [&] { return out.config(config, config_bytes, job); }));
  KILN_TRY(cache_manifest m, make_cache_manifest(content.records, config, style));
  KILN_CHECK(in_step(
      job, (style.image ? "writing cache image manifest " : "writing cache manifest ") + m.root.digest.str(),
      "error writing manifest blob", [&] { return out.manifest(m.root, m.bytes, job); }));
  return std::map<std::string, std::string>{
      {"cache.manifest", json_text(distribution::descriptor_json(m.root))}};
}

class registry_writer final : public content_writer {
 public:
  registry_writer(distribution::repository& repository, store::blob_store& blobs)
      : repository_(repository), blobs_(blobs) {}

  status layer(const descriptor& d, const cache_content& content, const job_context& job) override {
    KILN_TRY(bool there, repository_.has_blob(d.digest));
    if (there) return {};
    // Another repository of the same registry may have it.
    auto sources = d.annotations.find(distribution::source_label(repository_.ref().domain));
    if (sources != d.annotations.end() && sources->second != repository_.ref().path &&
        sources->second.find(',') == std::string::npos) {
      auto mounted = repository_.mount_blob(d.digest, sources->second);
      if (mounted.ok() && *mounted) return {};
    }
    KILN_CHECK(content.ensure(d, job));
    auto id = d.digest.str();
    auto pushed = repository_.push_blob(d, blobs_, [&](std::int64_t current, std::int64_t) {
      job.progress->progress(id, current, d.size, false);
    });
    job.progress->progress(id, d.size, d.size, true);
    return pushed;
  }
  status config(const descriptor& d, const std::string& bytes, const job_context&) override {
    KILN_TRY(bool there, repository_.has_blob(d.digest));
    if (there) return {};
    return repository_.push_blob(d, memory_blob(d.digest, bytes), {});
  }
  status manifest(const descriptor& d, const std::string& bytes, const job_context&) override {
    const auto& ref = repository_.ref();
    return repository_.push_manifest(d, bytes, ref.tag.empty() ? d.digest.str() : ref.tag);
  }

 private:
  distribution::repository& repository_;
  store::blob_store& blobs_;
};

class registry_exporter final : public cache_exporter {
 public:
  registry_exporter(cache_options options, manifest_style style, image_reference ref, bool insecure,
                    exporter_resources resources)
      : options_(options), style_(style), ref_(std::move(ref)), insecure_(insecure), resources_(resources) {}
  std::string name() const override { return "exporting cache to registry"; }
  const cache_options& options() const override { return options_; }
  result<std::map<std::string, std::string>> run(const cache_content& content,
                                                 const job_context& job) override {
    KILN_TRY(auto repository,
             distribution::repository::open(*resources_.hosts, ref_, distribution::repository::access::push,
                                            job, insecure_));
    registry_writer out(*repository, resources_.store->blobs());
    return write_cache(content, style_, out, job);
  }

 private:
  cache_options options_;
  manifest_style style_;
  image_reference ref_;
  bool insecure_;
  exporter_resources resources_;
};

class local_writer final : public content_writer {
 public:
  local_writer(store::session_content& client, store::blob_store& blobs) : client_(client), blobs_(blobs) {}

  status layer(const descriptor& d, const cache_content& content, const job_context& job) override {
    if (auto size = client_.size(d.digest, job.stop); size.ok() && *size == d.size) return {};
    KILN_CHECK(content.ensure(d, job));
    return client_.push(d, blobs_, job);
  }
  status config(const descriptor& d, const std::string& bytes, const job_context& job) override {
    return client_.push_bytes(d.digest, bytes, job.stop);
  }
  status manifest(const descriptor& d, const std::string& bytes, const job_context& job) override {
    return client_.push_bytes(d.digest, bytes, job.stop);
  }

 private:
  store::session_content& client_;
  store::blob_store& blobs_;
};

class local_exporter final : public cache_exporter {
 public:
  local_exporter(cache_options options, manifest_style style, std::string directory,
                 exporter_resources resources)
      : options_(options), style_(style), store_id_("local:" + directory), resources_(resources) {}
  std::string name() const override { return "exporting cache to client directory"; }
  const cache_options& options() const override { return options_; }
  result<std::map<std::string, std::string>> run(const cache_content& content,
                                                 const job_context& job) override {
    KILN_TRY(auto client, store::session_content::open(job, store_id_));
    local_writer out(client, resources_.store->blobs());
    return write_cache(content, style_, out, job);
  }

 private:
  cache_options options_;
  manifest_style style_;
  std::string store_id_;
  exporter_resources resources_;
};

/// Its value goes into the image's config: see inline_cache_of().
class inline_exporter final : public cache_exporter {
 public:
  explicit inline_exporter(cache_options options) : options_(options) {
    options_.mode = cache_mode::min;
    options_.compression = {};
  }
  std::string name() const override { return "exporting inline cache"; }
  const cache_options& options() const override { return options_; }
  bool is_inline() const override { return true; }
  result<std::map<std::string, std::string>> run(const cache_content&, const job_context&) override {
    return std::map<std::string, std::string>{};
  }

 private:
  cache_options options_;
};

using maker = result<std::unique_ptr<cache_exporter>>;

/// Unknown modes and unparsable ignore-error values are passed over, as upstream does.
cache_options common_options(const attributes& attrs) {
  cache_options out;
  if (cache_text(attrs, "mode") == "max") out.mode = cache_mode::max;
  auto ignore = cache_bool(attrs, "ignore-error", false);
  out.ignore_error = ignore.ok() && *ignore;
  return out;
}

maker make_registry(cache_options options, const attributes& attrs, exporter_resources resources) {
  KILN_TRY(options.compression, cache_compression(attrs));
  KILN_TRY(auto ref, cache_ref(attrs));
  KILN_TRY(auto style, cache_manifest_style(attrs));
  KILN_TRY(bool insecure, cache_bool(attrs, "registry.insecure", false));
  return std::unique_ptr<cache_exporter>(
      new registry_exporter(options, style, std::move(ref), insecure, resources));
}

maker make_local(cache_options options, const attributes& attrs, exporter_resources resources) {
  auto directory = cache_text(attrs, "dest");
  if (directory.empty()) return make_error(errc::invalid_argument, "local cache exporter requires dest");
  KILN_TRY(options.compression, cache_compression(attrs));
  KILN_TRY(auto style, cache_manifest_style(attrs));
  return std::unique_ptr<cache_exporter>(new local_exporter(options, style, directory, resources));
}

maker make_inline(cache_options options, const attributes&, exporter_resources) {
  return std::unique_ptr<cache_exporter>(new inline_exporter(options));
}

/// A cache of plain objects in what `read_settings` reads the attributes of.
template <auto read_settings>
maker make_objects(cache_options options, const attributes& attrs, exporter_resources resources) {
  KILN_TRY(auto settings, read_settings(attrs, resources));
  return make_object_exporter(options, std::move(settings), resources);
}

using make_function = maker (*)(cache_options, const attributes&, exporter_resources);

const std::map<std::string, make_function>& makers() {
  static const std::map<std::string, make_function> all{{"inline", make_inline},
                                                        {"registry", make_registry},
                                                        {"local", make_local},
                                                        {"s3", make_objects<s3_settings>},
                                                        {"azblob", make_objects<azblob_settings>},
                                                        {"gha", make_objects<gha_settings>}};
  return all;
}

}  // namespace

result<manifest_style> cache_manifest_style(const attributes& attrs) {
  manifest_style out;
  KILN_TRY(out.oci, cache_bool(attrs, "oci-mediatypes", true));
  KILN_TRY(out.image, cache_bool(attrs, "image-manifest", out.oci));
  return out;
}

result<cache_manifest> make_cache_manifest(const rc::marshalled& records, const descriptor& config,
                                           manifest_style style) {
  if (style.image && !style.oci)
    return make_error(
        errc::invalid_argument,
        "invalid configuration for remote cache, OCI mediatypes are required for image-manifest cache "
        "format");
  auto type = style.image ? media::oci_manifest : style.oci ? media::oci_index : media::docker_list;
  nlohmann::ordered_json j, list = nlohmann::ordered_json::array();
  for (const auto& l : records.config.layers) {
    descriptor d = records.layers.at(l.blob);
    d.media_type = style.oci ? rc::oci_layer_type(d.media_type) : rc::docker_layer_type(d.media_type);
    // Which repositories have it is our own knowledge, and may not be everyone's business.
    std::erase_if(d.annotations,
                  [](const auto& a) { return a.first.starts_with("containerd.io/distribution.source."); });
    list.push_back(distribution::descriptor_json(d));
  }
  j["schemaVersion"] = 2;
  j["mediaType"] = type;
  if (style.image) {
    j["config"] = distribution::descriptor_json(config);
    j["layers"] = std::move(list);
  } else {
    list.push_back(distribution::descriptor_json(config));
    j["manifests"] = std::move(list);
  }
  cache_manifest out;
  out.bytes = json_text(j);
  out.root = describe(out.bytes, type);
  return out;
}

bool is_cache_exporter(const std::string& type) { return makers().contains(type); }

result<std::unique_ptr<cache_exporter>> make_cache_exporter(
    const std::string& type, const std::map<std::string, std::string>& attributes,
    exporter_resources resources) {
  auto make = makers().find(type);
  if (make == makers().end())
    return make_error(errc::invalid_argument, "unknown cache exporter: \"" + type + "\"");
  auto made = make->second(common_options(attributes), attributes, resources);
  if (made.ok()) return made;
  return std::move(made).error().with_context("failed to configure " + type + " cache exporter");
}

}  // namespace kiln::exporters
