#include "actors/graph_spec.hpp"

#include <unordered_map>

#include "configs/definition.hpp"

namespace kiln::actors {

graph_spec to_spec(solver::graph g, const std::string& cache_mount_namespace) {
  graph_spec out;
  std::unordered_map<std::string, std::size_t> seen;  // digest → place among the vertices
  if (g.source) out.sources = {g.source->infos().begin(), g.source->infos().end()};
  for (auto& v : g.vertices) {
    seen[v.digest.str()] = out.vertices.size();
    vertex_spec spec;
    spec.digest = v.digest.str();
    spec.op.vertex = v.original.str();
    spec.op.op = std::move(v.op);
    spec.op.metadata = std::move(v.metadata);
    spec.op.platform = v.platform;
    spec.op.cache_mount_namespace = cache_mount_namespace;
    for (const auto& input : v.inputs) {
      spec.inputs.push_back({input.vertex.str(), input.index});
      const auto& from = out.vertices[seen.at(input.vertex.str())];
      spec.input_originals.push_back(from.op.vertex);
      spec.input_names.push_back(from.name.substr(0, configs::definition::input_name_bytes_max));
    }
    spec.name = std::move(v.name);
    if (g.source)
      if (auto where = g.source->locations().find(v.original.str()); where != g.source->locations().end())
        spec.locations = where->second;
    out.vertices.push_back(std::move(spec));
  }
  out.root = {g.root.vertex.str(), g.root.index};
  return out;
}

}  // namespace kiln::actors
