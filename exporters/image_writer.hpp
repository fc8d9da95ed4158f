// From a build's result to an image in the blob store: layers, configs, manifests, index.
// Source: exporter/containerimage/writer.go, Commit.
#pragma once

#include <string>
#include <vector>

#include "exporters/attributes.hpp"
#include "exporters/exporter.hpp"
#include "exporters/layers.hpp"

namespace kiln::exporters {

struct written_image {
  descriptor root;  // with the descriptor annotations asked for
  digest config;    // single manifests only
  /// Layers of all platforms, some perhaps not in the store yet.
  std::vector<exported_layer> layers;
  /// Its documents stay as long as this is about, as its layers do.
  std::vector<store::blob_hold> documents;
  /// The date for what goes around the image (index.json); nothing = now.
  std::optional<std::int64_t> epoch;

  const exported_layer* find_layer(const digest& d) const;
};

/// `options` as take_image_options() read them; annotations the frontend returned are merged in.
/// invalid_argument with upstream's texts for results that do not fit the options.
result<written_image> write_image(const exporter_resources& resources, const export_input& input,
                                  image_options options, const job_context& job);

/// "containerimage.digest", "containerimage.config.digest", "containerimage.descriptor".
std::map<std::string, std::string> image_response(const written_image& image);

/// The one-off progress of a step.
class step {
 public:
  step(const job_context& job, std::string id) : job_(job), id_(std::move(id)) {
    job_.progress->progress(id_, 0, 0, false);
  }
  ~step() { job_.progress->progress(id_, 0, 0, true); }
  step(const step&) = delete;
  step& operator=(const step&) = delete;

 private:
  const job_context& job_;
  std::string id_;
};

}  // namespace kiln::exporters
