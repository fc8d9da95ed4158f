// Progress of layers: who brings a layer to the disk for a step tells of it in the name of the step that the
// layer is of.
#pragma once

#include <string_view>

#include "messages/job.hpp"

namespace kiln {

/// A sink that knows whose layers are.
class layer_progress : public progress_sink {
 public:
  /// For what is done with that record's layer; lives as long as this.
  virtual progress_sink& of_layer(std::string_view record) = 0;
};

/// The job, as it tells of that record's layer.
inline job_context for_layer(const job_context& job, std::string_view record) {
  auto out = job;
  if (auto* known = dynamic_cast<layer_progress*>(job.progress)) out.progress = &known->of_layer(record);
  return out;
}

}  // namespace kiln
