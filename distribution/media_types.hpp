// Media types of images and what they mean. Pure. Source: OCI image-spec media-types.md; Docker schema 2.
#pragma once

#include <string_view>

namespace kiln::distribution::media {

inline constexpr std::string_view oci_index = "application/vnd.oci.image.index.v1+json";
inline constexpr std::string_view oci_manifest = "application/vnd.oci.image.manifest.v1+json";
inline constexpr std::string_view oci_config = "application/vnd.oci.image.config.v1+json";
inline constexpr std::string_view oci_layer = "application/vnd.oci.image.layer.v1.tar";
inline constexpr std::string_view oci_layer_gzip = "application/vnd.oci.image.layer.v1.tar+gzip";
inline constexpr std::string_view oci_layer_zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
inline constexpr std::string_view oci_empty = "application/vnd.oci.empty.v1+json";
inline constexpr std::string_view docker_list = "application/vnd.docker.distribution.manifest.list.v2+json";
inline constexpr std::string_view docker_manifest = "application/vnd.docker.distribution.manifest.v2+json";
inline constexpr std::string_view docker_config = "application/vnd.docker.container.image.v1+json";
inline constexpr std::string_view docker_layer = "application/vnd.docker.image.rootfs.diff.tar";
inline constexpr std::string_view docker_layer_gzip = "application/vnd.docker.image.rootfs.diff.tar.gzip";
inline constexpr std::string_view docker_layer_zstd = "application/vnd.docker.image.rootfs.diff.tar.zstd";
inline constexpr std::string_view docker_foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar";
inline constexpr std::string_view docker_foreign_gzip =
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
inline constexpr std::string_view oci_nondist = "application/vnd.oci.image.layer.nondistributable.v1.tar";
inline constexpr std::string_view oci_nondist_gzip =
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
inline constexpr std::string_view oci_nondist_zstd =
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd";
inline constexpr std::string_view docker_schema1 =
    "application/vnd.docker.distribution.manifest.v1+prettyjws";
inline constexpr std::string_view in_toto = "application/vnd.in-toto+json";

constexpr bool is_index(std::string_view t) { return t == oci_index || t == docker_list; }
constexpr bool is_manifest(std::string_view t) { return t == oci_manifest || t == docker_manifest; }
constexpr bool is_nondistributable(std::string_view t) {
  return t.starts_with("application/vnd.docker.image.rootfs.foreign.") ||
         t.starts_with("application/vnd.oci.image.layer.nondistributable.");
}

}  // namespace kiln::distribution::media
