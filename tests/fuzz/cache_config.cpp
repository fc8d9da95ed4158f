// Configs of remote caches.
#include "solver/remote_cache/config.hpp"

#include "solver/remote_cache/imported_graph.hpp"
#include "tests/fuzz/support/input.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  (void)solver::remote_cache::parse_inline_records(bytes, {sha256("a"), sha256("b")});
  auto config = solver::remote_cache::parse_config(bytes);
  if (!config.ok()) return;
  std::map<digest, descriptor> blobs;
  for (const auto& layer : config->layers) blobs[layer.blob].digest = layer.blob;
  solver::remote_cache::imported_graph graph;
  require(graph.add(*config, blobs).ok(), "a config that was checked makes a graph");
  solver::remote_cache::canonicalize(*config);
  require(solver::remote_cache::parse_config(solver::remote_cache::to_json(*config)).ok(),
          "a config written is one to read");
}
