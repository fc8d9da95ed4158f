// What the solving actors and workers say to each other: ids, digests and ops, never pointers.
// Plain; the typed interfaces are in actor_interfaces.hpp.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "messages/attestation.hpp"
#include "messages/content_selector.hpp"
#include "messages/platform.hpp"
#include "messages/session.hpp"
#include "ops.pb.h"

namespace kiln {

/// How a step of a build with a proxy network reaches the network: only through the worker's proxy, which
/// has each request judged.
struct proxy_rules {
  bool on = false;
  std::vector<std::string> policies;  // source policies, serialized, in their order
  std::string policy_session;         // of the client that judges too; empty: none does
};

template <class Inspector>
auto inspect(Inspector& f, proxy_rules& x) {
  return f(x.on, x.policies, x.policy_session);
}

/// One op as a worker needs it.
struct op_spec {
  std::string vertex;  // digest, as the client knows it: for progress and temporary names
  pb::Op op;
  pb::OpMetadata metadata;
  kiln::platform platform;
  std::string cache_mount_namespace;
  std::string name = {};  // what people know the vertex by
  proxy_rules proxy = {};
};

template <class Inspector>
auto inspect(Inspector& f, op_spec& x) {
  return f(x.vertex, x.op, x.metadata, x.platform, x.cache_mount_namespace, x.name, x.proxy);
}

struct vertex_input {
  std::string vertex;  // digest
  std::int32_t index = 0;
  bool operator==(const vertex_input&) const = default;
};

template <class Inspector>
auto inspect(Inspector& f, vertex_input& x) {
  return f(x.vertex, x.index);
}

/// One vertex of a loaded definition.
struct vertex_spec {
  std::string digest;  // identity among running builds
  op_spec op;          // op.vertex: the original digest
  std::vector<vertex_input> inputs;
  std::vector<std::string> input_originals;  // digests as the client knows them
  std::vector<std::string> input_names;      // what a reason shows of them
  std::string name;
  pb::Locations locations;  // in the graph's sources
};

template <class Inspector>
auto inspect(Inspector& f, vertex_spec& x) {
  return f(x.digest, x.op, x.inputs, x.input_originals, x.input_names, x.name, x.locations);
}

/// A loaded definition, inputs before their users.
struct graph_spec {
  std::vector<vertex_spec> vertices;
  vertex_input root;
  std::vector<std::string> imports;     // ids of the imported caches to look keys up in
  std::vector<pb::SourceInfo> sources;  // the files it was made from
};

template <class Inspector>
auto inspect(Inspector& f, graph_spec& x) {
  return f(x.vertices, x.root, x.imports, x.sources);
}

struct key_set {
  std::vector<std::string> keys;
};

template <class Inspector>
auto inspect(Inspector& f, key_set& x) {
  return f(x.keys);
}

/// Results that may not be on disk yet, by record, and the vertices (digests as clients know them) they are
/// of: who brings their layers there says so in the name of these.
using result_owners = std::map<std::string, std::string>;

struct vertex_result {
  std::string ref;  // record id; empty = scratch
  std::vector<std::string> keys;
  result_owners owners = {};  // of it and of what it is made on
};

template <class Inspector>
auto inspect(Inspector& f, vertex_result& x) {
  return f(x.ref, x.keys, x.owners);
}

/// Asks for the `index`-th cache map of an op.
struct key_request {
  op_spec op;
  std::int32_t index = 0;
  session_group sessions;
};

template <class Inspector>
auto inspect(Inspector& f, key_request& x) {
  return f(x.op, x.index, x.sessions);
}

struct key_dependency {
  std::string selector;
  bool content_based = false;
  std::vector<content_selector> content;
};

template <class Inspector>
auto inspect(Inspector& f, key_dependency& x) {
  return f(x.selector, x.content_based, x.content);
}

struct key_reply {
  kiln::digest op_digest;
  std::vector<key_dependency> dependencies;
  bool more = false;
  std::string origin, pin;  // a source in its normal form, and what it resolved to: a digest or a commit
};

template <class Inspector>
auto inspect(Inspector& f, key_reply& x) {
  return f(x.op_digest, x.dependencies, x.more, x.origin, x.pin);
}

struct run_request {
  op_spec op;
  std::vector<std::string> inputs;  // record ids; empty = scratch
  session_group sessions;
  result_owners owners = {};  // of the inputs
};

template <class Inspector>
auto inspect(Inspector& f, run_request& x) {
  return f(x.op, x.inputs, x.sessions, x.owners);
}

struct run_reply {
  std::vector<std::string> outputs;      // record ids, pinned for the requester
  std::vector<std::int64_t> bytes = {};  // of each output without its parents, -1: unknown; for placing work
  std::string usage = {};    // JSON: what its process used, as provenance tells it; empty: not known
  std::string proxied = {};  // of a step with a proxy: what it fetched (messages/proxy_capture.hpp)
};

template <class Inspector>
auto inspect(Inspector& f, run_reply& x) {
  return f(x.outputs, x.bytes, x.usage, x.proxied);
}

/// What a worker has to do at the moment.
struct worker_load {
  std::int32_t running = 0;
  std::int32_t waiting = 0;  // for a slot
};

template <class Inspector>
auto inspect(Inspector& f, worker_load& x) {
  return f(x.running, x.waiting);
}

struct checksum_request {
  std::string vertex;  // for progress of what has to be unlazied
  std::string ref;
  std::vector<content_selector> selectors;
  session_group sessions;
  result_owners owners = {};  // of the ref
};

template <class Inspector>
auto inspect(Inspector& f, checksum_request& x) {
  return f(x.vertex, x.ref, x.selectors, x.sessions, x.owners);
}

/// Which ref a file question is about.
struct ref_scope {
  std::string ref;
  session_group sessions;
};

template <class Inspector>
auto inspect(Inspector& f, ref_scope& x) {
  return f(x.ref, x.sessions);
}

struct export_part {
  std::string id;  // platform id; empty when single
  kiln::platform platform;
  std::string ref;
  std::vector<attestation> attestations;
  result_owners owners = {};  // of the ref
};

template <class Inspector>
auto inspect(Inspector& f, export_part& x) {
  return f(x.id, x.platform, x.ref, x.attestations, x.owners);
}

struct export_spec {
  std::string type;
  std::map<std::string, std::string> attributes;
  std::int32_t index = 0;                  // in the request
  std::int32_t compatibility_version = 0;  // 0: the current one
};

template <class Inspector>
auto inspect(Inspector& f, export_spec& x) {
  return f(x.type, x.attributes, x.index, x.compatibility_version);
}

/// One output of a vertex as far as it is known.
struct cache_step {
  std::string vertex;  // its digest, as other steps' inputs name it
  std::int32_t index = 0;
  std::vector<std::string> keys;
  std::string ref;  // record id; empty when it was not made or loaded, or is scratch
  std::vector<vertex_input> inputs;
  std::int32_t export_cache = -1;  // what the definition says: 0 no, 1 yes, -1 nothing
  std::string original;            // digest as the client knows it
  pb::SourceOp source;             // of sources, as policies left it
  kiln::platform platform;
  std::string origin, pin;  // of sources, as in key_reply
  std::string usage = {};   // of what was run, as in run_reply
  std::string proxy_op;     // of a step with a proxy: its op's digest in cache keys
  std::string proxied;      // as in run_reply; empty: nobody knows
};

template <class Inspector>
auto inspect(Inspector& f, cache_step& x) {
  return f(x.vertex, x.index, x.keys, x.ref, x.inputs, x.export_cache, x.original, x.source, x.platform,
           x.origin, x.pin, x.usage, x.proxy_op, x.proxied);
}

/// What a build did, for exporting its cache.
struct cache_trail {
  std::vector<cache_step> steps;
  std::vector<vertex_result> results;  // in the order of the export's parts
  std::vector<std::string> imports;    // ids
};

template <class Inspector>
auto inspect(Inspector& f, cache_trail& x) {
  return f(x.steps, x.results, x.imports);
}

struct export_request {
  std::string vertex;  // digest of its progress vertex
  export_spec spec;
  std::vector<export_part> parts;
  bool multi_platform = false;
  std::map<std::string, std::string> metadata;
  std::string session;
  session_group sessions;
  bool inline_cache = false;
  cache_trail trail;  // for the inline cache
};

template <class Inspector>
auto inspect(Inspector& f, export_request& x) {
  return f(x.vertex, x.spec, x.parts, x.multi_platform, x.metadata, x.session, x.sessions, x.inline_cache,
           x.trail);
}

/// What an export left, as the build history keeps it.
struct exported_object {
  std::string media_type;
  std::string digest;
  std::int64_t size = 0;  // bytes
  std::map<std::string, std::string> annotations;
};

template <class Inspector>
auto inspect(Inspector& f, exported_object& x) {
  return f(x.media_type, x.digest, x.size, x.annotations);
}

struct export_reply {
  std::map<std::string, std::string> response;
  std::vector<exported_object> results;
  std::uint64_t finalize = 0;  // job to finalize with; 0 = nothing to do
};

template <class Inspector>
auto inspect(Inspector& f, export_reply& x) {
  return f(x.response, x.results, x.finalize);
}

/// Named caches to empty: id → whether it lies on an input.
struct prune_caches {
  std::map<std::string, bool> ids;
};

template <class Inspector>
auto inspect(Inspector& f, prune_caches& x) {
  return f(x.ids);
}

}  // namespace kiln
