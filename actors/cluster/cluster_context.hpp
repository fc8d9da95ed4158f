// What the parts of the cluster actor share: its options, its jobs, its time, and what this node says of
// itself. The actor has it and outlives its parts.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "actors/cluster/cluster.hpp"

namespace kiln::actors {

struct cluster_context {
  using time_point = caf::actor_clock::time_point;

  cluster_context(cluster_impl::pointer actor, cluster_options o) : self(actor), options(std::move(o)) {}

  time_point now() const { return self->clock().now(); }
  const std::string& name() const { return options.self.name; }

  cluster_impl::pointer self;
  const cluster_options options;
  job_runner jobs;
  std::uint64_t events = 0;  // orders what happens
  node_load load;            // as load_meter and departure have it
  bool has_left = false;     // the cluster, after it was drained
};

/// As much of another node's words as is kept.
inline std::string short_text(std::string text) {
  if (text.size() > configs::cluster::reason_bytes_max) text.resize(configs::cluster::reason_bytes_max);
  return text;
}

}  // namespace kiln::actors
