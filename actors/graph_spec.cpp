#include "actors/graph_spec.hpp"

#include <unordered_map>

namespace kiln::actors {

graph_spec to_spec(const solver::graph& g, const std::string& cache_mount_namespace) {
  graph_spec out;
  std::unordered_map<std::string, const solver::vertex*> seen;
  for (const auto& v : g.vertices) {
    seen[v.digest.str()] = &v;
    vertex_spec spec;
    spec.digest = v.digest.str();
    spec.op.vertex = v.original.str();
    spec.op.op = v.op;
    spec.op.metadata = v.metadata;
    spec.op.platform = v.platform;
    spec.op.cache_mount_namespace = cache_mount_namespace;
    for (const auto& input : v.inputs) {
      spec.inputs.push_back({input.vertex.str(), input.index});
      const auto& from = *seen.at(input.vertex.str());
      spec.input_originals.push_back(from.original.str());
      spec.input_names.push_back(from.name);
    }
    spec.name = v.name;
    spec.locations = solver::source_details(g, v.original);
    out.vertices.push_back(std::move(spec));
  }
  out.root = {g.root.vertex.str(), g.root.index};
  return out;
}

}  // namespace kiln::actors
