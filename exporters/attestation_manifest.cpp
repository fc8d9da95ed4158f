#include "exporters/attestation_manifest.hpp"

#include "base/json_text.hpp"
#include "exporters/image_config.hpp"
#include "exporters/image_writer.hpp"
#include "distribution/media_types.hpp"

namespace kiln::exporters {

namespace {

namespace media = distribution::media;

constexpr const char* in_toto_type = "application/vnd.in-toto+json";
constexpr const char* empty_type = "application/vnd.oci.empty.v1+json";
constexpr const char* artifact_type = "application/vnd.docker.attestation.manifest.v1+json";

/// The config of the image form: statements as layers of no platform.
std::string image_config(const std::vector<descriptor>& layers) {
  ordered_json diff_ids = ordered_json::array();
  for (const auto& l : layers) diff_ids.push_back(l.digest.str());
  ordered_json config{{"architecture", "unknown"}, {"os", "unknown"}, {"config", ordered_json::object()}};
  config["rootfs"] = {{"type", "layers"}, {"diff_ids", std::move(diff_ids)}};
  return go_json(config);
}

}  // namespace

result<descriptor> write_attestations(stored_documents& documents, const std::vector<statement>& statements,
                                      const descriptor& image, bool oci, bool artifact,
                                      const job_context& job) {
  std::vector<descriptor> layers;
  for (const auto& s : statements) {
    KILN_TRY(auto layer, documents.put(go_json(s.document), in_toto_type));
    layer.annotations["in-toto.io/predicate-type"] = s.predicate_type;
    layers.push_back(std::move(layer));
  }
  std::string config = artifact ? "{}" : image_config(layers);
  KILN_TRY(auto config_descriptor, documents.put(config, artifact ? empty_type
                                                         : oci    ? media::oci_config
                                                                  : media::docker_config));
  ordered_json manifest{{"schemaVersion", 2},
                        {"mediaType", oci ? media::oci_manifest : media::docker_manifest}};
  if (artifact) manifest["artifactType"] = artifact_type;
  manifest["config"] = distribution::descriptor_json(config_descriptor);
  if (artifact) manifest["config"]["data"] = "e30=";  // the bytes of {}
  manifest["layers"] = ordered_json::array();
  for (auto& l : layers) {
    if (!oci) l.annotations.clear();
    manifest["layers"].push_back(distribution::descriptor_json(l));
  }
  if (artifact) {
    descriptor subject;
    subject.media_type = image.media_type;
    subject.digest = image.digest;
    subject.size = image.size;
    manifest["subject"] = distribution::descriptor_json(subject);
  }
  auto bytes = go_json(manifest, 2);
  step exporting(job, "exporting attestation manifest " + sha256(bytes).str());
  KILN_TRY(auto out, documents.put(bytes, oci ? media::oci_manifest : media::docker_manifest));
  out.platform = platform{"unknown", "unknown", "", "", {}};
  out.annotations = {{"vnd.docker.reference.type", "attestation-manifest"},
                     {"vnd.docker.reference.digest", image.digest.str()}};
  return out;
}

}  // namespace kiln::exporters
