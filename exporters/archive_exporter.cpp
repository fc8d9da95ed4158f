// The `oci` and `docker` exporters: an image as a tar to the client, or as blobs into its content store.
// Source: exporter/oci/export.go; containerd core/images/archive/exporter.go.
#include <algorithm>
#include <chrono>
#include <set>

#include "base/json_text.hpp"
#include "base/text.hpp"
#include "base/time_text.hpp"
#include "configs/exporters.hpp"
#include "exporters/factories.hpp"
#include "exporters/file_send.hpp"
#include "exporters/image_config.hpp"
#include "exporters/image_writer.hpp"
#include "exporters/tar_tree.hpp"
#include "messages/image_reference.hpp"
#include "distribution/image_json.hpp"
#include "distribution/media_types.hpp"
#include "store/blobs/session_content.hpp"

namespace kiln::exporters {
namespace {

namespace media = distribution::media;

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

result<std::vector<std::string>> normalized_names(const std::string& names) {
  std::vector<std::string> out;
  if (names.empty()) return out;
  for (std::size_t at = 0; at <= names.size();) {
    std::size_t end = std::min(names.find(',', at), names.size());
    std::string name = names.substr(at, end - at);
    auto ref = read_image_reference(name);
    if (!ref.ok()) return std::move(ref).error().with_context("failed to parse " + name);
    out.push_back(ref->tagged().str());
    at = end + 1;
  }
  return out;
}

/// Everything an image is made of, children first, each once.
status collect(store::blob_store& blobs, const descriptor& d, std::set<digest>& seen,
               std::vector<descriptor>& out, int depth = 0) {
  if (!seen.insert(d.digest).second) return {};
  if (depth > configs::image_depth_max)
    return make_error(errc::invalid_argument, "indexes are nested too deeply");
  if (media::is_index(d.media_type) || media::is_manifest(d.media_type)) {
    KILN_TRY(std::string bytes, blobs.read_all(d.digest, configs::max_manifest_size));
    KILN_TRY(distribution::manifest m, distribution::parse_manifest(bytes, d.media_type));
    for (const auto& child : m.entries) KILN_CHECK(collect(blobs, child, seen, out, depth + 1));
    if (!m.is_index) {
      KILN_CHECK(collect(blobs, m.config, seen, out, depth + 1));
      for (const auto& child : m.layers) KILN_CHECK(collect(blobs, child, seen, out, depth + 1));
    }
  }
  out.push_back(d);
  return {};
}

class archive_exporter : public exporter {
 public:
  archive_exporter(bool docker, image_options options, bool tar, attributes metadata, int id,
                   exporter_resources r)
      : docker_(docker),
        options_(std::move(options)),
        tar_(tar),
        metadata_(std::move(metadata)),
        id_(id),
        resources_(r) {}

  std::string name() const override {
    return std::string("exporting to ") + (docker_ ? "docker" : "oci") + " image format";
  }

  status can_be_like(int compatibility_version) const override {
    return check_compatibility(docker_ ? "docker" : "oci", options_, compatibility_version);
  }

  result<export_outcome> run(const export_input& given, const job_context& job) override {
    if (docker_ && given.multi_platform)
      return make_error(errc::invalid_argument,
                        "docker exporter does not currently support exporting manifest lists");
    export_input input = given;
    for (const auto& [k, v] : metadata_) input.metadata[k] = v;
    std::string all_names = options_.name;
    if (auto it = input.metadata.find("image.name"); all_names == "*" && it != input.metadata.end())
      all_names = it->second;
    KILN_TRY(auto names, normalized_names(all_names));
    KILN_TRY(auto client, exporting_client(input, job));

    KILN_TRY(written_image image, write_image(resources_, input, options_, job));
    if (!image.root.annotations.contains("org.opencontainers.image.created")) {
      std::int64_t ns = image.epoch ? *image.epoch * 1'000'000'000 : now_ns() / 1'000'000'000 * 1'000'000'000;
      image.root.annotations["org.opencontainers.image.created"] = format_rfc3339(ns);
    }
    export_outcome out;
    out.response = image_response(image);
    if (!names.empty()) out.response["image.name"] = join(names, ",");
    out.results.push_back(image.root);

    layer_exporter layers(*resources_.store, resources_.hosts, options_.compression);
    KILN_CHECK(in_parallel(image.layers.size(), registry_threads(),
                           [&](std::size_t i) { return layers.ensure(image.layers[i], job); }));
    std::set<digest> seen;
    std::vector<descriptor> content;
    KILN_CHECK(collect(blobs(), image.root, seen, content));
    if (tar_) KILN_CHECK(send_tar(*client, image.root, names, content, out.response, job));
    else KILN_CHECK(send_content(client, content, job));
    return out;
  }

 private:
  store::blob_store& blobs() { return resources_.store->blobs(); }
  unsigned registry_threads() const { return resources_.hosts ? resources_.hosts->max_concurrency() : 1; }

  /// index.json: the root once per name.
  std::string index(const descriptor& root, const std::vector<std::string>& names) const {
    std::vector<descriptor> entries;
    for (const auto& name : names) {
      descriptor d = root;
      d.annotations["io.containerd.image.name"] = name;
      if (auto ref = read_image_reference(name); ref.ok() && !ref->tag.empty())
        d.annotations["org.opencontainers.image.ref.name"] = ref->tag;
      entries.push_back(std::move(d));
    }
    if (entries.empty()) entries.push_back(root);
    nlohmann::ordered_json j;
    j["schemaVersion"] = 2;
    j["mediaType"] = media::oci_index;
    j["manifests"] = ordered_json::array();
    for (const auto& e : entries) j["manifests"].push_back(distribution::descriptor_json(e));
    return go_json(j);
  }

  static std::string blob_path(const digest& d) {
    return "blobs/" + std::string(d.algorithm()) + "/" + std::string(d.hex());
  }

  /// manifest.json, as `docker load` reads it.
  result<std::string> docker_manifest(const descriptor& root, const std::vector<std::string>& names) {
    KILN_TRY(std::string bytes, blobs().read_all(root.digest, configs::max_manifest_size));
    KILN_TRY(distribution::manifest m, distribution::parse_manifest(bytes, root.media_type));
    if (m.is_index) {  // one image and its attestations
      const auto* image = distribution::choose_platform(m, host_platform());
      for (const auto& d : m.entries)
        if (image == nullptr && !distribution::is_attestation(d)) image = &d;
      if (image == nullptr) return make_error(errc::invalid_argument, "no image to export");
      return docker_manifest(*image, names);
    }
    ordered_json j;
    j["Config"] = blob_path(m.config.digest);
    j["RepoTags"] = nullptr;
    for (const auto& name : names) {
      KILN_TRY(image_reference ref, read_image_reference(name));
      if (j["RepoTags"].is_null()) j["RepoTags"] = ordered_json::array();
      j["RepoTags"].push_back(ref.familiar());
    }
    j["Layers"] = ordered_json::array();
    for (const auto& l : m.layers) j["Layers"].push_back(blob_path(l.digest));
    return go_json(ordered_json::array({j}));
  }

  status send_tar(session_caller& client, const descriptor& root, const std::vector<std::string>& names,
                  const std::vector<descriptor>& content, const std::map<std::string, std::string>& response,
                  const job_context& job) {
    step sending(job, "sending tarball");
    // A client that wants no file says so; that is no failure of the build.
    auto settle = [](status s) -> status {
      if (!s.ok() && s.error().code == errc::already_exists) return {};
      return s;
    };
    auto file = client_file::open(client, id_, response, job);
    if (!file.ok()) return settle(std::move(file).error());
    auto s = write_archive(**file, root, names, content, job);
    if (s.ok()) s = (*file)->finish();
    return settle(std::move(s));
  }

  status write_archive(store::byte_sink& out, const descriptor& root, const std::vector<std::string>& names,
                       std::vector<descriptor> content, const job_context& job) {
    store::tar_writer tar(out);
    auto directory = [&](const std::string& name) {
      store::tar_entry e;
      e.name = name;
      e.type = '5';
      e.mode = 0755;
      return add_entry(tar, e);
    };
    auto document = [&](const std::string& name, std::string_view bytes) {
      store::tar_entry e;
      e.name = name;
      e.mode = 0444;
      return add_entry(tar, e, bytes);
    };
    KILN_CHECK(directory("blobs/"));
    std::sort(content.begin(), content.end(),
              [](const descriptor& a, const descriptor& b) { return a.digest < b.digest; });
    std::string algorithm;
    for (const auto& d : content) {
      KILN_CHECK(job.check());
      if (algorithm != d.digest.algorithm()) {
        algorithm = d.digest.algorithm();
        KILN_CHECK(directory("blobs/" + algorithm + "/"));
      }
      store::tar_entry e;
      e.name = blob_path(d.digest);
      e.mode = 0444;
      e.size = d.size;
      KILN_TRY(auto in, blobs().read(d.digest));
      KILN_CHECK(add_entry(tar, e, *in));
    }
    KILN_CHECK(document("index.json", index(root, names)));
    if (docker_) {
      KILN_TRY(std::string manifest, docker_manifest(root, names));
      KILN_CHECK(document("manifest.json", manifest));
    }
    KILN_CHECK(document("oci-layout", R"({"imageLayoutVersion":"1.0.0"})"));
    return tar.finish();
  }

  /// Children before parents; the client itself updates its index.json.
  status send_content(std::shared_ptr<session_caller> client, const std::vector<descriptor>& content,
                      const job_context& job) {
    step copying(job, "copying to client");
    store::session_content to(std::move(client), "export");
    for (const auto& d : content) {
      KILN_CHECK(job.check());
      auto s = to.push(d, blobs(), job);
      if (!s.ok()) return std::move(s).error().with_context("failed to copy " + d.digest.str());
    }
    return {};
  }

  bool docker_;
  image_options options_;
  bool tar_;
  attributes metadata_;
  int id_;
  exporter_resources resources_;
};

}  // namespace

result<std::unique_ptr<exporter>> make_archive_exporter(bool docker, attributes attrs, int id,
                                                        exporter_resources resources) {
  KILN_TRY(image_options options, take_image_options(attrs));
  if (!docker && !options.oci_types) options.oci_types = true;
  bool tar = true;
  if (auto it = attrs.find("tar"); it != attrs.end()) {
    KILN_TRY(tar, parse_bool("tar", it->second, true));
    attrs.erase(it);
  }
  return std::unique_ptr<exporter>(
      std::make_unique<archive_exporter>(docker, std::move(options), tar, std::move(attrs), id, resources));
}

}  // namespace kiln::exporters
