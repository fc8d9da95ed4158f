// A loaded LLB definition: vertices in dependency order, checked and normalised. Pure.
// Knows nothing of caching, sessions or who runs it. Source: solver/llbsolver/vertex.go.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "messages/platform.hpp"
#include "ops.pb.h"
#include "solver/entitlements.hpp"

namespace kiln::solver {

struct edge {
  kiln::digest vertex;
  int index = 0;
  bool operator==(const edge&) const = default;
};

struct vertex {
  kiln::digest digest;    // identity among running builds: after policy changes
  kiln::digest original;  // as the client hashed it: for progress, errors, source locations
  pb::Op op;              // input digests and platform as loaded
  pb::OpMetadata metadata;
  kiln::platform platform;  // never empty
  std::vector<edge> inputs;
  std::string name;
  bool has_proxy = false;
};

struct graph {
  std::vector<vertex> vertices;  // inputs before their users; only what the root needs
  edge root;
  std::shared_ptr<const pb::Source> source;  // of the definition; locations by original digest
};

struct load_options {
  kiln::platform default_platform = host_platform();
  bool ignore_cache = false;              // for every vertex
  const entitlements* granted = nullptr;  // null: not checked
  std::span<const device> devices;        // what there is to grant; looked at with `granted`
  bool check_capabilities = true;
  /// Empty: steps have the network they ask for. Otherwise those that have any get it through a proxy: they
  /// are other steps than without, and than by other rules; this tells rules apart.
  std::string proxy_rules = {};
  /// May change an op (source policies) before digests are final; an error refuses the definition.
  std::function<status(pb::Op&)> mutate;
  std::stop_token stop = {};  // cancelled soon after it is requested
};

/// Errors are invalid_argument with upstream's texts where it has one; bounds are in configs/definition.hpp.
/// Time and memory grow with the definition's size, times a logarithm: a job, where the definition may be
/// large.
result<graph> load(const pb::Definition& definition, const load_options& options);

/// Nodes of a directed graph, inputs before users, only those `root` reaches. The error prints a
/// cycle as "a → b → a". Iterative: depth is bounded by memory only.
result<std::vector<int>> dependency_order(int root, int count,
                                          const std::function<std::span<const int>(int)>& inputs,
                                          const std::function<std::string(int)>& name);

/// "llb.customname" or a description of the op. `input_name(i)` names input i.
using input_naming = std::function<const std::string&(int)>;
std::string vertex_name(const pb::Op& op, const pb::OpMetadata& metadata, const input_naming& input_name);

/// Named caches that vertices with `ignore_cache` mount: id → whether it lies on an input.
std::map<std::string, bool> caches_to_prune(const graph& g);

/// Source ranges as Source details (JSON texts). Each holds a whole source file: made for an error, never
/// kept.
std::vector<error_detail> source_details(const pb::Locations& locations,
                                         std::span<const pb::SourceInfo> infos);

}  // namespace kiln::solver
