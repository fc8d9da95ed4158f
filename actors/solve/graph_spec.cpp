#include "actors/solve/graph_spec.hpp"

#include <unordered_map>
#include <unordered_set>

#include "base/digest.hpp"
#include "configs/definition.hpp"
#include "workers/sources/source_form.hpp"

namespace kiln::actors {

namespace {

/// Among an op's descriptions, which are no part of what it does. Whatever a client writes there is
/// overwritten.
constexpr const char* build_key = "kiln.build";

bool is_the_builds_own(const pb::Op& op) {
  // A nested definition may have such sources.
  return op.has_build() || (op.has_source() && workers::may_lead_elsewhere(op.source()));
}

}  // namespace

std::string text_of(const proxy_rules& rules) {
  if (!rules.on) return {};
  std::string all = sha256(rules.policy_session).str();
  for (const auto& policy : rules.policies) all += sha256(policy).str();
  return sha256(all).str();
}

graph_spec to_spec(solver::graph g, const std::string& cache_mount_namespace, const proxy_rules& proxy) {
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
    // What is in a nested definition may have one.
    if (v.has_proxy || spec.op.op.has_build()) spec.op.proxy = proxy;
    for (const auto& input : v.inputs) {
      spec.inputs.push_back({input.vertex.str(), input.index});
      const auto& from = out.vertices[seen.at(input.vertex.str())];
      spec.input_originals.push_back(from.op.vertex);
      spec.input_names.push_back(from.name.substr(0, configs::definition::input_name_bytes_max));
    }
    spec.op.name = v.name;
    spec.name = std::move(v.name);
    if (g.source)
      if (auto where = g.source->locations().find(v.original.str()); where != g.source->locations().end())
        spec.locations = where->second;
    out.vertices.push_back(std::move(spec));
  }
  out.root = {g.root.vertex.str(), g.root.index};
  return out;
}

std::string build_name(const caf::strong_actor_ptr& build) { return caf::to_string(build); }

std::string build_of(const op_spec& op) {
  auto found = op.metadata.description().find(build_key);
  return found == op.metadata.description().end() ? "" : found->second;
}

void keep_to_build(graph_spec& spec, const std::string& build) {
  std::unordered_set<std::string> own;  // digests as they were
  auto rename = [&](std::string& digest) {
    if (own.contains(digest)) digest += "@" + build;
  };
  for (auto& v : spec.vertices) {
    v.op.metadata.mutable_description()->erase(build_key);
    bool is_own = is_the_builds_own(v.op.op);
    if (is_own) (*v.op.metadata.mutable_description())[build_key] = build;
    for (auto& input : v.inputs) {
      is_own |= own.contains(input.vertex);
      rename(input.vertex);
    }
    if (is_own) own.insert(v.digest);
    rename(v.digest);
  }
  rename(spec.root.vertex);
}

}  // namespace kiln::actors
