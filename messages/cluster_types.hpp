// What nodes of a cluster say to each other (docs/cluster.md). Plain; the typed interfaces are in
// actor_cluster.hpp.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "worker.pb.h"

namespace kiln {

/// An id and the node it belongs to. Ids of refs and sessions travel as "node!id"; without a node they
/// mean this one. Node names have letters, digits, '.', '-' and '_' only.
struct located_id {
  std::string node;  // empty: here
  std::string id;
  bool operator==(const located_id&) const = default;
};

inline located_id locate(std::string_view text) {
  auto mark = text.find('!');
  if (mark == std::string_view::npos) return {"", std::string(text)};
  return {std::string(text.substr(0, mark)), std::string(text.substr(mark + 1))};
}
inline bool is_remote(std::string_view text) { return text.find('!') != std::string_view::npos; }
/// `id` as nodes other than `node` name it; the empty id (scratch) has no place, and a located id keeps its
/// own.
inline std::string at_node(std::string_view node, std::string_view id) {
  if (id.empty() || is_remote(id)) return std::string(id);
  return std::string(node) + "!" + std::string(id);
}
/// The id as `node` itself names it.
inline std::string as_seen_by(std::string_view node, std::string_view text) {
  auto l = locate(text);
  return l.node == node ? l.id : std::string(text);
}

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
/// runs. Links are those of store::cache_keys.
struct cache_query {
  struct link {
    std::string parent;
    std::int32_t input = 0;
    std::int32_t output = 0;
    std::string digest;
    std::string selector;
    bool operator==(const link&) const = default;
  };
  std::vector<link> links;
  std::vector<std::string> roots;  // key ids
};

template <class Inspector>
auto inspect(Inspector& f, cache_query::link& x) {
  return f(x.parent, x.input, x.output, x.digest, x.selector);
}
template <class Inspector>
auto inspect(Inspector& f, cache_query& x) {
  return f(x.links, x.roots);
}

/// Links and results, as a cache-key database keeps them: an answer to a question, or what a node is to
/// remember. Result ids are located, "scratch" has no place.
struct cache_records {
  struct step {
    cache_query::link link;
    std::string child;
  };
  struct result {
    std::string key;
    std::string id;
    std::int64_t created_at_ns = 0;
  };
  std::vector<step> links;
  std::vector<result> results;
};

template <class Inspector>
auto inspect(Inspector& f, cache_records::step& x) {
  return f(x.link, x.child);
}
template <class Inspector>
auto inspect(Inspector& f, cache_records::result& x) {
  return f(x.key, x.id, x.created_at_ns);
}
template <class Inspector>
auto inspect(Inspector& f, cache_records& x) {
  return f(x.links, x.results);
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
