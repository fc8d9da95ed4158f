// A loaded definition as the build graph takes it.
#pragma once

#include <string>

#include <caf/all.hpp>

#include "messages/solve_types.hpp"
#include "solver/graph.hpp"

namespace kiln::actors {

/// `proxy`: the rules that the graph was loaded with.
graph_spec to_spec(solver::graph g, const std::string& cache_mount_namespace, const proxy_rules& proxy = {});
/// What tells steps under these rules from those under others (solver::load_options); empty without a proxy.
std::string text_of(const proxy_rules& rules);

/// How workers call a build: by its actor.
std::string build_name(const caf::strong_actor_ptr& build);
/// Makes the steps whose sources may lead elsewhere at any time, and all that is built on them, this build's
/// own: what they lead to, workers remember by its name. Equal work is still done once, by its keys.
void keep_to_build(graph_spec& spec, const std::string& build);
/// The build an op was made the own of; empty: any.
std::string build_of(const op_spec& op);

}  // namespace kiln::actors
