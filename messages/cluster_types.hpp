// What nodes of a cluster say to each other (docs/cluster.md). Plain; the typed interfaces are in
// actor_cluster.hpp.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "messages/cache_records.hpp"
#include "worker.pb.h"

namespace kiln {

enum class node_role : std::uint8_t { both, coordinator, worker };

/// A node as it introduces itself.
struct node_info {
  std::string name;            // unique in the cluster; survives restarts
  std::uint64_t instance = 0;  // random at each start
  std::string version;         // of Kiln; nodes of another version are refused
  node_role role = node_role::both;
  std::string control_address;  // host:port of its actors
  std::string data_address;     // host:port of its peer service (blobs, refs, sessions)
  std::int32_t slots = 1;       // ops it runs at a time for everybody together
  moby::buildkit::v1::types::WorkerRecord record;
};

template <class Inspector>
auto inspect(Inspector& f, node_info& x) {
  return f(x.name, x.instance, x.version, x.role, x.control_address, x.data_address, x.slots, x.record);
}

/// What a node has to do at the moment; sent with every heartbeat.
struct node_load {
  std::int32_t running = 0;
  std::int32_t waiting = 0;
  bool draining = false;
  std::int64_t bytes_in = 0;   // since start, from peers
  std::int64_t bytes_out = 0;  // since start, to peers
  std::int64_t refs = 0;       // records it keeps
  std::int64_t disk_free = 0;  // bytes
};

template <class Inspector>
auto inspect(Inspector& f, node_load& x) {
  return f(x.running, x.waiting, x.draining, x.bytes_in, x.bytes_out, x.refs, x.disk_free);
}

/// First message over a link, and its answer. A node that was declared dead comes back with a new link.
struct link_hello {
  node_info from;
  std::uint64_t link = 0;               // chosen by whoever says hello
  std::vector<std::string> neighbours;  // control addresses of the nodes it knows
};

template <class Inspector>
auto inspect(Inspector& f, link_hello& x) {
  return f(x.from, x.link, x.neighbours);
}

struct link_heartbeat {
  std::uint64_t link = 0;
  node_load load;
  std::vector<std::string> neighbours;
};

template <class Inspector>
auto inspect(Inspector& f, link_heartbeat& x) {
  return f(x.link, x.load, x.neighbours);
}

/// "Which results lie under these roots, and where do these links lead?": what a vertex looks up before it
/// runs.
struct cache_query {
  std::vector<cache_edge> links;   // without their children
  std::vector<std::string> roots;  // key ids
};

template <class Inspector>
auto inspect(Inspector& f, cache_query& x) {
  return f(x.links, x.roots);
}

/// One node as an operator sees it.
struct node_view {
  node_info info;
  node_load load;
  std::string state;               // self, up, draining, down, refused
  std::string reason;              // of down and refused
  std::int64_t since_ns = 0;       // when the state began, unix time
  std::int64_t round_trip_ns = 0;  // of the last heartbeat
};

template <class Inspector>
auto inspect(Inspector& f, node_view& x) {
  return f(x.info, x.load, x.state, x.reason, x.since_ns, x.round_trip_ns);
}

struct cluster_view {
  std::vector<node_view> nodes;  // this one first
};

template <class Inspector>
auto inspect(Inspector& f, cluster_view& x) {
  return f(x.nodes);
}

}  // namespace kiln
