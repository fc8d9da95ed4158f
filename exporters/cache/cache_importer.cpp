#include "exporters/cache/cache_importer.hpp"

#include "configs/registry.hpp"
#include "exporters/attributes.hpp"
#include "exporters/cache/cache_attributes.hpp"
#include "exporters/cache/object_store.hpp"
#include "distribution/client.hpp"
#include "distribution/media_types.hpp"
#include "store/blobs/session_content.hpp"

namespace kiln::exporters {
namespace {

namespace rc = solver::remote_cache;

/// Layers from the repository the cache came from, with the credentials of whoever asks.
class repository_provider final : public store::blob_provider {
 public:
  repository_provider(distribution::hosts& hosts, image_reference ref, bool insecure)
      : hosts_(hosts), ref_(std::move(ref)), insecure_(insecure) {}
  status fetch(const descriptor& blob, store::blob_store& into, const job_context& job) override {
    KILN_TRY(auto repository, distribution::repository::open(
                                  hosts_, ref_, distribution::repository::access::pull, job, insecure_));
    auto id = blob.digest.str();
    auto done = repository->fetch_blob(blob, into, [&](std::int64_t current, std::int64_t total) {
      job.progress->progress(id, current, total, false);
    });
    job.progress->progress(id, blob.size, blob.size, true);
    return done;
  }

 private:
  distribution::hosts& hosts_;
  image_reference ref_;
  bool insecure_;
};

class registry_importer final : public cache_importer {
 public:
  registry_importer(std::string id, distribution::hosts& hosts, image_reference ref, bool insecure)
      : id_(std::move(id)), hosts_(hosts), ref_(std::move(ref)), insecure_(insecure) {}

  result<std::shared_ptr<imported_cache>> load(const job_context& job) override {
    KILN_TRY(auto repository, distribution::repository::open(
                                  hosts_, ref_, distribution::repository::access::pull, job, insecure_));
    KILN_TRY(descriptor root, repository->resolve());
    auto read = [&](const descriptor& d, std::int64_t limit) -> result<std::string> {
      bool manifest = d.digest == root.digest || distribution::media::is_manifest(d.media_type) ||
                      distribution::media::is_index(d.media_type);
      if (!manifest) return repository->small_blob(d, limit);
      KILN_TRY(auto fetched, repository->manifest(d.digest));
      return std::move(fetched.bytes);
    };
    auto source = distribution::source_label(ref_.domain);
    KILN_TRY(auto graph, read_cache_manifest(
                             root, read, [&](descriptor& d) { d.annotations[source] = ref_.path; }, job));
    return std::make_shared<imported_cache>(
        id_, std::move(graph), std::make_shared<repository_provider>(hosts_, ref_, insecure_), true);
  }

 private:
  std::string id_;
  distribution::hosts& hosts_;
  image_reference ref_;
  bool insecure_;
};

class local_importer final : public cache_importer {
 public:
  local_importer(std::string id, std::string source, digest root)
      : id_(std::move(id)), store_id_("local:" + source), root_(std::move(root)) {}

  result<std::shared_ptr<imported_cache>> load(const job_context& job) override {
    KILN_TRY(auto content, store::session_content::open(job, store_id_));
    descriptor root;
    root.digest = root_;
    KILN_TRY(root.size, content.size(root_, job.stop));
    auto read = [&](const descriptor& d, std::int64_t limit) {
      return content.read_all(d.digest, limit, job.stop);
    };
    KILN_TRY(auto graph, read_cache_manifest(root, read, {}, job));
    // Nobody else has that directory, so the bytes of what is used are taken over at once.
    return std::make_shared<imported_cache>(id_, std::move(graph), store::session_content_provider(store_id_),
                                            false);
  }

 private:
  std::string id_, store_id_;
  digest root_;
};

using maker = result<std::unique_ptr<cache_importer>>;

maker make_registry(const std::string& id, const attributes& attrs, exporter_resources& resources) {
  KILN_TRY(auto ref, cache_ref(attrs));
  KILN_TRY(bool insecure, cache_bool(attrs, "registry.insecure", false));
  return std::unique_ptr<cache_importer>(
      new registry_importer(id, *resources.hosts, std::move(ref), insecure));
}

maker make_local(const std::string& id, const attributes& attrs) {
  auto text = cache_text(attrs, "digest"), source = cache_text(attrs, "src");
  if (text.empty())
    return make_error(errc::invalid_argument, "local cache importer requires explicit digest");
  if (source.empty()) return make_error(errc::invalid_argument, "local cache importer requires src");
  KILN_TRY(digest root, digest::parse(text));
  return std::unique_ptr<cache_importer>(new local_importer(id, source, std::move(root)));
}

}  // namespace

std::string cache_import_id(const std::string& type, const std::map<std::string, std::string>& attributes) {
  auto ref = cache_text(attributes, "ref");
  if (type == "registry" && !ref.empty()) return ref;
  std::string text;
  for (const auto& [name, value] : attributes)
    text += std::to_string(name.size()) + ":" + name + std::to_string(value.size()) + ":" + value;
  return type + ":" + std::to_string(std::stoull(std::string(sha256(text).hex().substr(0, 15)), nullptr, 16));
}

result<std::unique_ptr<cache_importer>> make_cache_importer(
    const std::string& type, const std::map<std::string, std::string>& attributes,
    exporter_resources resources) {
  auto id = cache_import_id(type, attributes);
  auto made = [&]() -> maker {
    if (type == "registry") return make_registry(id, attributes, resources);
    if (type == "local") return make_local(id, attributes);
    if (type == "s3") {
      KILN_TRY(auto settings, s3_settings(attributes, resources));
      return make_object_importer(id, std::move(settings));
    }
    if (type == "azblob") {
      KILN_TRY(auto settings, azblob_settings(attributes, resources));
      return make_object_importer(id, std::move(settings));
    }
    if (type == "gha") {
      KILN_TRY(auto settings, gha_settings(attributes, resources));
      return make_object_importer(id, std::move(settings));
    }
    return make_error(errc::invalid_argument, "unknown cache importer: " + type);
  }();
  if (made.ok() || type.empty() || made.error().message.starts_with("unknown cache importer")) return made;
  return std::move(made).error().with_context("failed to configure " + type + " cache importer");
}

}  // namespace kiln::exporters
