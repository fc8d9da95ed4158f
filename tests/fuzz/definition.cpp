// LLB definitions with a source policy: loading, cache maps, names and JSON. The first packet is the policy,
// every other one an op. Inputs are pointed at ops before them, or hardly any graph would hold together.
#include "ops.pb.h"
#include "policy.pb.h"
#include "solver/cache_map.hpp"
#include "solver/go_json.hpp"
#include "solver/graph.hpp"
#include "solver/source_policy.hpp"
#include "tests/fuzz/support/input.hpp"
#include "workers/sources/source_form.hpp"

namespace kiln::fuzz {
namespace {

constexpr std::size_t ops_max = 64;

pb::Definition chained(input& in) {
  pb::Definition definition;
  std::vector<std::string> digests;
  while (!in.empty() && digests.size() < ops_max) {
    pb::Op op;
    if (!op.ParseFromString(in.packet())) continue;
    for (auto& from : *op.mutable_inputs()) {
      if (digests.empty() || from.digest().starts_with("!")) continue;  // stays as it is: no such op
      auto pick = from.digest().empty() ? 0 : static_cast<unsigned char>(from.digest()[0]);
      from.set_digest(digests[pick % digests.size()]);
    }
    auto bytes = op.SerializeAsString();
    digests.push_back(sha256(bytes).str());
    auto& metadata = (*definition.mutable_metadata())[digests.back()];
    (*metadata.mutable_description())["llb.customname"] = op.GetTypeName();
    definition.add_def(std::move(bytes));
  }
  if (digests.empty()) return definition;
  pb::Op root;
  root.add_inputs()->set_digest(digests.back());
  definition.add_def(root.SerializeAsString());
  return definition;
}

void use(const solver::graph& g) {
  for (const auto& v : g.vertices) {
    (void)solver::cache_map_of(v.op, v.platform);
    (void)solver::go_json(v.op);
  }
  (void)solver::caches_to_prune(g);
}

}  // namespace

void try_input(std::string_view bytes) {
  input in(bytes);
  solver::source_policy policy;
  bool has_policy = policy.ParseFromString(in.packet()) && solver::validate(policy).ok();
  auto definition = chained(in);
  auto nothing = solver::entitlements::grant({}, {});
  solver::load_options options;
  options.granted = &*nothing;
  if (auto g = solver::load(definition, options); g.ok()) use(*g);
  if (!has_policy) return;
  options.mutate = [&](pb::Op& op) -> status {
    if (!op.has_source()) return {};
    workers::source_form form;
    return solver::apply({policy}, *op.mutable_source(), form);
  };
  if (auto g = solver::load(definition, options); g.ok()) use(*g);
}

}  // namespace kiln::fuzz
