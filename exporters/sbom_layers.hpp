// SBOMs of images say of each file in which layer it is. Source: exporter/containerimage/attestations.go.
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>

#include "base/json_text.hpp"
#include "exporters/layers.hpp"

namespace kiln::exporters {

/// Which of an image's layers last wrote a path. Reads layers from the top, as far down as is needed.
/// Blocking.
class layer_files {
 public:
  /// Both must outlive it.
  layer_files(layer_exporter& exporter, std::span<const exported_layer> layers)
      : exporter_(exporter), layers_(layers), left_(layers.size()) {}
  /// The layer's digest; nothing when no layer has the path. A file that an upper layer removes is found
  /// where it was made.
  result<std::optional<digest>> find(const std::string& path, const job_context& job);

 private:
  layer_exporter& exporter_;
  std::span<const exported_layer> layers_;
  std::size_t left_;                                    // layers that are not read yet
  std::unordered_map<std::string, std::size_t> found_;  // path → layer
};

/// Adds "layerID: <digest>" to every file of an SPDX 2 document that has no comment, and the daemon to its
/// creators. Other documents stay as they are. Errors: those of `layer_of`.
status add_layers(nlohmann::ordered_json& document,
                  const std::function<result<std::optional<digest>>(const std::string& path)>& layer_of);

}  // namespace kiln::exporters
