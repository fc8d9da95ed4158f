#include "exporters/image_writer.hpp"

#include <algorithm>

#include "base/base64.hpp"
#include "base/json_text.hpp"
#include "base/time_text.hpp"
#include "exporters/attestation_manifest.hpp"
#include "exporters/attestations.hpp"
#include "exporters/image_config.hpp"
#include "exporters/provenance/purl.hpp"
#include "exporters/sbom_layers.hpp"
#include "distribution/image_json.hpp"
#include "distribution/media_types.hpp"
#include "distribution/transport.hpp"

namespace kiln::exporters {
namespace {

namespace media = distribution::media;

/// `key/<platform>` or `key` of the result's metadata.
std::string metadata_of(const export_input& input, const std::string& key, const std::string& platform_id) {
  if (!platform_id.empty())
    if (auto it = input.metadata.find(key + "/" + platform_id); it != input.metadata.end()) return it->second;
  auto it = input.metadata.find(key);
  return it == input.metadata.end() ? std::string() : it->second;
}

/// A part of the result with its platform made out.
struct part {
  std::string id;
  kiln::platform platform;
  bool known_platform = false;
  std::string config, base_config;
  std::optional<std::int64_t> epoch;
};

result<part> describe(const export_input& input, const export_ref& r, const image_options& options) {
  part p;
  p.config = metadata_of(input, "containerimage.config", r.id);
  p.base_config = metadata_of(input, "containerimage.base.config", r.id);
  p.platform = r.platform;
  // Without a platforms mapping the config itself says what the image is for. Source:
  // exptypes.ParsePlatforms.
  if (!input.multi_platform && !input.metadata.contains("refs.platforms") && !p.config.empty()) {
    KILN_TRY(auto stated, platform_of_config(p.config));
    p.platform = stated.value_or(kiln::platform{});
  } else if (p.platform.os.empty()) {
    p.platform = host_platform();
  }
  p.known_platform = !p.platform.os.empty();
  if (p.known_platform) p.platform = normalize(p.platform);
  p.id = !r.id.empty() ? r.id : p.known_platform ? format_platform(p.platform) : "";
  if (options.date) {
    p.epoch = options.date->seconds;
  } else {
    KILN_TRY(p.epoch, epoch_from_metadata(input.metadata, p.id));
  }
  return p;
}

/// Annotations that stay inside the daemon. Source: RemoveInternalLayerAnnotations.
std::map<std::string, std::string> public_annotations(const std::map<std::string, std::string>& in,
                                                      bool oci) {
  std::map<std::string, std::string> out;
  if (!oci) return out;
  for (const auto& [k, v] : in) {
    if (k == "containerd.io/uncompressed" || k == "buildkit/createdat" || k == "buildkit/description" ||
        k.starts_with("containerd.io/distribution.source."))
      continue;
    out.emplace(k, v);
  }
  return out;
}

class writer {
 public:
  writer(const exporter_resources& resources, const export_input& input, const image_options& options,
         const job_context& job)
      : resources_(resources),
        input_(input),
        options_(options),
        job_(job),
        layers_(*resources.store, resources.hosts, options.compression),
        documents_(resources.store->blobs()) {}

  result<written_image> run() {
    // Attestations need an index, even of a single image.
    index_ = input_.multi_platform || has_any_attestations();
    if (input_.refs.empty())
      return make_error(errc::invalid_argument, "nothing to export: the result has no refs");
    if (!input_.multi_platform && input_.refs.size() > 1)
      return make_error(errc::invalid_argument,
                        "cannot export multiple platforms without multi-platform enabled");
    for (const auto& r : input_.refs) {
      if (input_.multi_platform && r.id.empty())
        return make_error(errc::invalid_argument,
                          "unable to export multiple refs, missing platforms mapping");
      KILN_TRY(part p, describe(input_, r, options_));
      parts_.push_back(std::move(p));
    }
    KILN_CHECK(check_annotations());
    auto made = [&]() -> result<std::vector<std::vector<exported_layer>>> {
      step layers(job_, "exporting layers");
      std::vector<store::ref> refs;
      for (const auto& r : input_.refs) refs.push_back(r.ref);
      return layers_.run(refs, job_);
    }();
    if (!made.ok()) return std::move(made).error();

    written_image out;
    if (options_.date) out.epoch = options_.date->seconds;
    else out.epoch = parts_.front().epoch;
    std::vector<descriptor> manifests, attestations;
    for (std::size_t i = 0; i < parts_.size(); ++i) {
      auto& layers = (*made)[i];
      if (options_.rewrite_timestamp) KILN_CHECK(rewrite(parts_[i], layers));
      KILN_TRY(descriptor m, write_manifest(i, layers, out.config));
      if (parts_[i].known_platform) m.platform = parts_[i].platform;
      KILN_CHECK(attest(i, m, layers, attestations));
      manifests.push_back(std::move(m));
      std::move(layers.begin(), layers.end(), std::back_inserter(out.layers));
    }
    std::move(attestations.begin(), attestations.end(), std::back_inserter(manifests));
    if (!index_) {
      out.root = std::move(manifests.front());
      out.documents = documents_.holds();
      return out;
    }
    out.config = {};
    auto notes = annotations_for(options_.annotations, nullptr);
    std::string bytes =
        index_json(options_.oci() ? media::oci_index : media::docker_list, manifests, notes.index);
    step exporting(job_, "exporting manifest list " + sha256(bytes).str());
    KILN_TRY(out.root, documents_.put(bytes, options_.oci() ? media::oci_index : media::docker_list));
    out.root.annotations = notes.index_descriptor;
    out.documents = documents_.holds();
    return out;
  }

 private:
  store::blob_store& blobs() { return resources_.store->blobs(); }

  bool has_any_attestations() const {
    return std::any_of(input_.refs.begin(), input_.refs.end(), [&](const auto& r) {
      return has_attestations(r.attestations, options_.inline_attestations);
    });
  }

  /// The attestation manifest of one image, after it.
  status attest(std::size_t index, const descriptor& image, const std::vector<exported_layer>& layers,
                std::vector<descriptor>& out) {
    const auto& given = input_.refs[index].attestations;
    if (!index_ || given.empty()) return {};
    if (!options_.oci())
      return make_error(errc::invalid_argument, "cannot export attestations with \"oci-mediatypes=false\"");
    std::vector<default_subject> subjects;
    for (std::size_t at = 0; at < options_.name.size();) {
      auto end = std::min(options_.name.find(',', at), options_.name.size());
      if (end > at) {
        KILN_TRY(auto name, image_purl("docker", options_.name.substr(at, end - at), parts_[index].platform));
        subjects.push_back({std::move(name), image.digest});
      }
      at = end + 1;
    }
    KILN_TRY(auto statements, make_statements(*resources_.store, given, true, subjects, job_));
    layer_files files(layers_, layers);
    for (auto& s : statements) {
      if (!s.core_sbom || !input_.refs[index].ref) continue;
      KILN_CHECK(add_layers(s.document["predicate"],
                            [&](const std::string& path) { return files.find(path, job_); }));
    }
    KILN_TRY(auto manifest,
             write_attestations(documents_, statements, image, options_.oci(), *options_.oci_artifact, job_));
    out.push_back(std::move(manifest));
    return {};
  }

  status check_annotations() {
    for (const auto& [name, set] : options_.annotations) {
      const auto& id = name;  // Clang 14 lets no lambda see a structured binding
      bool known = id.empty() || std::any_of(parts_.begin(), parts_.end(), [&](const part& p) {
                     return p.id == id || (p.known_platform && format_platform(p.platform) == id);
                   });
      // The one part there is stands for any platform, for upstream's sake; its annotations do not.
      if (!known && parts_.size() == 1)
        job_.progress->warn("annotations for " + id + " are not used: the result is for " +
                            format_platform(parts_.front().platform));
      else if (!known)
        return make_error(errc::invalid_argument,
                          "invalid annotation: no platform " + id + " found in source");
      if (!options_.oci() &&
          !(set.index.empty() && set.index_descriptor.empty() && set.manifest_descriptor.empty()))
        return make_error(errc::invalid_argument, "cannot export annotations with \"oci-mediatypes=false\"");
      if (!index_ && !(set.index.empty() && set.index_descriptor.empty()))
        return make_error(errc::invalid_argument,
                          "index annotations not supported for single platform export");
    }
    return {};
  }

  status rewrite(const part& p, std::vector<exported_layer>& layers) {
    if (!p.epoch) {
      job_.progress->warn("rewrite-timestamp is specified, but no source-date-epoch was found");
      return {};
    }
    std::vector<digest> base;
    if (!p.base_config.empty()) {
      auto j = json_or_null(p.base_config);
      if (!j.is_object()) return make_error(errc::invalid_argument, "failed to unmarshal base image config");
      KILN_TRY(base, distribution::diff_ids_of(j));
    }
    step rewriting(job_, "rewriting layers with source-date-epoch " + std::to_string(*p.epoch) + " (" +
                             format_rfc3339(*p.epoch * 1'000'000'000) + ")");
    return layers_.rewrite_times(layers, base, *p.epoch, job_);
  }

  result<descriptor> write_manifest(std::size_t index, const std::vector<exported_layer>& layers,
                                    digest& config_digest) {
    const part& p = parts_[index];
    config_patch patch;
    patch.epoch = p.epoch;
    patch.base_config = p.base_config;
    patch.inline_cache = metadata_of(input_, "containerimage.inlinecache", p.id);
    if (input_.inline_cache) {
      std::vector<store::layer_blob> blobs;
      for (const auto& l : layers) blobs.push_back(l.blob);
      KILN_TRY(patch.inline_cache, input_.inline_cache(index, blobs, job_));
    }
    std::vector<descriptor> descriptors;
    bool oci = options_.oci();
    for (const auto& l : layers) {
      patch.layers.push_back({l.description, l.created_at_ns});
      patch.diff_ids.push_back(l.blob.diff_id);
      descriptor d = l.blob.blob;
      d.media_type = convert_layer_type(d.media_type, oci, options_.prefer_nondistributable);
      d.annotations = public_annotations(d.annotations, oci);
      d.platform.reset();
      if (!media::is_nondistributable(d.media_type)) d.urls.clear();
      descriptors.push_back(std::move(d));
    }
    KILN_TRY(std::string config, patch_image_config(p.config, patch));
    KILN_TRY(descriptor c, documents_.put(config, oci ? media::oci_config : media::docker_config));
    config_digest = c.digest;
    auto notes = annotations_for(options_.annotations, p.known_platform ? &p.platform : nullptr);
    auto type = oci ? media::oci_manifest : media::docker_manifest;
    std::string bytes = manifest_json(type, c, descriptors, notes.manifest);
    step manifest(job_, "exporting manifest " + sha256(bytes).str());
    KILN_TRY(descriptor m, documents_.put(bytes, type));
    step exporting_config(job_, "exporting config " + c.digest.str());
    m.annotations = notes.manifest_descriptor;
    return m;
  }

  const exporter_resources& resources_;
  const export_input& input_;
  const image_options& options_;
  const job_context& job_;
  layer_exporter layers_;
  stored_documents documents_;
  bool index_ = false;
  std::vector<part> parts_;
};

}  // namespace

const exported_layer* written_image::find_layer(const digest& d) const {
  for (const auto& l : layers)
    if (l.blob.blob.digest == d) return &l;
  return nullptr;
}

result<written_image> write_image(const exporter_resources& resources, const export_input& input,
                                  image_options options, const job_context& job) {
  attributes returned = input.metadata;
  KILN_CHECK(take_annotations(returned, options.annotations));
  bool attested = std::any_of(input.refs.begin(), input.refs.end(),
                              [](const auto& r) { return !r.attestations.empty(); });
  KILN_CHECK(options.settle(input.compatibility_version, attested));
  return writer(resources, input, options, job).run();
}

std::map<std::string, std::string> image_response(const written_image& image) {
  std::map<std::string, std::string> out;
  out["containerimage.digest"] = image.root.digest.str();
  if (image.config) out["containerimage.config.digest"] = image.config.str();
  out["containerimage.descriptor"] = base64_encode(go_json(distribution::descriptor_json(image.root)));
  return out;
}

}  // namespace kiln::exporters
