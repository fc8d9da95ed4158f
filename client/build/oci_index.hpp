// index.json of a directory with the OCI layout: which manifests it holds under which names.
// Source: buildkit client/ociindex.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"

namespace kiln::client {

class oci_index {
 public:
  explicit oci_index(std::string directory) : directory_(std::move(directory)) {}

  /// The digest of the manifest with that image name or tag; nothing when there is none.
  result<std::optional<std::string>> find(const std::string& tag) const;
  /// Digests of everything named.
  result<std::vector<std::string>> digests() const;
  /// Adds a descriptor (JSON) under a tag, in place of what had it; writes `oci-layout` too.
  status put_tag(const std::string& descriptor, const std::string& tag);
  /// Adds it under a full image name.
  status put_name(const std::string& descriptor, const std::string& name);

 private:
  status put(const std::string& descriptor, const std::string& image_name, const std::string& ref_name);

  std::string directory_;
};

/// The tag or digest of an image name as OCI layouts note it; the name itself when it has none.
/// Source: containerd pkg/reference Object.
std::string oci_reference_name(const std::string& name);

}  // namespace kiln::client
