// LLB definitions as a client sends them, digests and metadata and sources included.
#include "ops.pb.h"
#include "solver/graph.hpp"
#include "tests/fuzz/support/input.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  pb::Definition definition;
  if (!definition.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return;
  (void)solver::load(definition, {});
  const auto& told = definition.source().infos();
  const std::vector<pb::SourceInfo> infos(told.begin(), told.end());
  for (const auto& [digest, locations] : definition.source().locations())
    (void)solver::source_details(locations, infos);
}
