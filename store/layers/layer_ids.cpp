#include "store/layers/layer_ids.hpp"

#include "store/layers/layer_plan.hpp"

namespace kiln::store {

std::vector<std::string> layer_ids(const ref& r) {
  std::vector<std::string> out;
  if (!r) return out;
  for (const auto& layer : flatten(r.get())) out.push_back(layer->id);
  return out;
}

}  // namespace kiln::store
