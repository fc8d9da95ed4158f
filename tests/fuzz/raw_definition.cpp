// LLB definitions as a client sends them, digests and metadata and sources included.
#include "ops.pb.h"
#include "solver/graph.hpp"
#include "tests/fuzz/support/input.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  pb::Definition definition;
  if (!definition.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return;
  auto g = solver::load(definition, {});
  if (!g.ok()) return;
  for (const auto& v : g->vertices) (void)solver::source_details(*g, v.original);
}
