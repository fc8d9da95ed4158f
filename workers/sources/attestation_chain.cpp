#include "workers/sources/attestation_chain.hpp"

#include <algorithm>

#include "configs/registry.hpp"
#include "distribution/image_json.hpp"
#include "distribution/media_types.hpp"

namespace kiln::workers {

namespace {

namespace gw = moby::buildkit::v1::frontend;

constexpr std::string_view sigstore_bundle = "application/vnd.dev.sigstore.bundle.v0.3+json";
constexpr std::string_view cosign_signature = "application/vnd.dev.cosign.artifact.sig.v1+json";

class chain_reader {
 public:
  chain_reader(image_origin& origin, gw::AttestationChain& chain) : origin_(origin), chain_(chain) {}

  result<std::string> add(const descriptor& d, std::int64_t limit) {
    KILN_TRY(std::string data, origin_.read(d, limit));
    auto& blob = (*chain_.mutable_blobs())[d.digest.str()];
    blob.mutable_desc()->set_media_type(d.media_type);
    blob.mutable_desc()->set_digest(d.digest.str());
    blob.mutable_desc()->set_size(d.size);
    for (const auto& [k, v] : d.annotations) (*blob.mutable_desc()->mutable_annotations())[k] = v;
    blob.set_data(data);
    return data;
  }

  result<distribution::manifest> add_manifest(const descriptor& d) {
    KILN_TRY(std::string text, add(d, configs::max_manifest_size));
    return distribution::parse_manifest(text, d.media_type);
  }

  /// The signature of an attestation manifest, if there is one; a bundle rather than one of the older kind.
  status add_signature(const kiln::digest& attestation) {
    KILN_TRY(auto about, origin_.referrers(attestation));
    auto of_type = [&](std::string_view type) {
      return std::find_if(about.begin(), about.end(),
                          [&](const descriptor& d) { return d.artifact_type == type; });
    };
    auto found = of_type(sigstore_bundle);
    if (found == about.end()) found = of_type(cosign_signature);
    if (found == about.end()) return {};
    KILN_TRY(auto signature, add_manifest(*found));
    chain_.add_signaturemanifests(found->digest.str());
    for (const auto& layer : signature.layers) KILN_CHECK(add(layer, configs::max_image_config_size));
    return {};
  }

 private:
  image_origin& origin_;
  gw::AttestationChain& chain_;
};

/// The attestation manifest of an image in the same index.
const descriptor* attestation_of(const distribution::manifest& index, const descriptor& image) {
  for (const auto& entry : index.entries) {
    auto subject = entry.annotations.find("vnd.docker.reference.digest");
    if (distribution::is_attestation(entry) && subject != entry.annotations.end() &&
        subject->second == image.digest.str())
      return &entry;
  }
  return nullptr;
}

}  // namespace

status add_attestation_chain(image_origin& origin, const descriptor& root, const platform& wanted,
                             const gw::ResolveSourceImageRequest& request,
                             gw::ResolveSourceImageResponse& out) {
  if (!distribution::media::is_index(root.media_type)) return {};
  auto& chain = *out.mutable_attestationchain();
  chain_reader reader(origin, chain);
  chain.set_root(root.digest.str());
  KILN_TRY(auto index, reader.add_manifest(root));
  const descriptor* image = distribution::choose_platform(index, wanted);
  if (image == nullptr) return {};
  chain.set_imagemanifest(image->digest.str());
  const descriptor* attestation = attestation_of(index, *image);
  if (attestation == nullptr) return {};
  chain.set_attestationmanifest(attestation->digest.str());
  KILN_TRY(auto statements, reader.add_manifest(*attestation));
  const auto& asked = request.resolveattestations();
  for (const auto& layer : statements.layers) {
    auto type = layer.annotations.find("in-toto.io/predicate-type");
    if (type == layer.annotations.end() || std::find(asked.begin(), asked.end(), type->second) == asked.end())
      continue;
    KILN_CHECK(reader.add(layer, configs::max_image_config_size));
  }
  return reader.add_signature(attestation->digest);
}

}  // namespace kiln::workers
