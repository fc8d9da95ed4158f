// Reading exporter attributes: what image-like exporters share. Pure.
// Source: exporter/containerimage/{opts,annotations}.go; util/compression/attrs.go;
// exporter/util/epoch/parse.go.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "messages/platform.hpp"
#include "store/archive/codec.hpp"

namespace kiln::exporters {

using attributes = std::map<std::string, std::string>;

/// Go's strconv.ParseBool; invalid_argument "non-bool value specified for <key>: …". Empty is `when_empty`,
/// or an error when that is unset.
result<bool> parse_bool(std::string_view key, const std::string& value, std::optional<bool> when_empty = {});

/// SOURCE_DATE_EPOCH: absent (never mentioned), explicitly none, or seconds.
struct epoch {
  std::optional<std::int64_t> seconds;
};
/// Empty text is explicitly none; invalid_argument "invalid <key>: …" when no integer.
result<epoch> parse_epoch(std::string_view key, const std::string& value);
/// What the frontend said in `source.date.epoch/<platform>` or `source.date.epoch`.
result<std::optional<std::int64_t>> epoch_from_metadata(const attributes& metadata,
                                                        const std::string& platform_id);

struct compression_options {
  store::compression kind = store::compression::gzip;
  std::optional<int> level;
  bool force = false;
};

/// Annotations of one platform, or (key "") of all.
struct annotation_set {
  attributes index, index_descriptor, manifest, manifest_descriptor;
};
using annotation_group = std::map<std::string, annotation_set>;

/// Takes `annotation[-<type>][[<platform>]].<key>` entries out of `attrs` into the group.
status take_annotations(attributes& attrs, annotation_group& out);
/// Index annotations of all, manifest annotations of everyone and of this platform.
annotation_set annotations_for(const annotation_group& group, const platform* p);

/// What image, oci and docker exporters have in common.
struct image_options {
  std::string name;
  compression_options compression;
  std::optional<bool> oci_types;     // unset: settle() says
  std::optional<bool> oci_artifact;  // unset: settle() says
  bool inline_attestations = false;
  bool prefer_nondistributable = false;
  bool rewrite_timestamp = false;
  std::optional<epoch> date;  // set when the attribute was given
  annotation_group annotations;

  bool oci() const { return oci_types.value_or(true); }
  /// What the client left open, as the version has it. Of old, only an image `with_attestations` (and the oci
  /// exporter's, which says so itself) has OCI's media types. invalid_argument when that fits none of the
  /// options.
  status settle(int compatibility_version, bool with_attestations);
};

/// Whether an exporter of that name can do this in that version, as exporter::can_be_like.
status check_compatibility(std::string_view exporter, const image_options& options,
                           int compatibility_version);

/// Reads what it knows and leaves the rest in `attrs`.
result<image_options> take_image_options(attributes& attrs);

}  // namespace kiln::exporters
