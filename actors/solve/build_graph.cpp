#include "actors/solve/build_graph.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <unordered_map>
#include <vector>

#include "actors/ending.hpp"
#include "actors/solve/graph_spec.hpp"
#include "actors/handles.hpp"
#include "actors/solve/shared_limits.hpp"
#include "actors/solve/vertex.hpp"
#include "workers/sources/resolutions.hpp"

namespace kiln::actors {

namespace {

/// Appended to the identity of vertices that ignore the cache, and of those built on them.
constexpr const char* ignoring = "-ignorecache";

struct entry {
  vertex_actor vertex;
  std::set<caf::actor_addr> holders;
  std::shared_ptr<shared_limits> limits;
  std::shared_ptr<workers::resolutions>
      step_history;  // of the build whose own it is: it may run on when that has ended
};

struct holder {
  progress_actor handle;
  std::string session;
  std::set<std::string> vertices;
};

struct directory {
  build_graph_actor::pointer self = nullptr;
  build_graph_options options;
  std::unordered_map<std::string, entry> vertices;  // by identity
  std::map<caf::actor_addr, std::string> identities;
  std::map<caf::actor_addr, holder> holders;
  std::unordered_map<std::string, vertex_actor> claims;  // by key
  std::map<caf::actor_addr, std::vector<std::string>> claimed;
  ending end;

  ~directory() {
    for (auto& [id, e] : vertices) send_exit(caf::actor_cast<caf::actor>(e.vertex), end.for_dependants());
  }

  caf::result<vertex_actor> load(graph_spec& spec, const progress_actor& who, const std::string& session) {
    if (!options.peers.worker()) return peer_down(peers::worker_name);
    auto sources = std::make_shared<const std::vector<pb::SourceInfo>>(std::move(spec.sources));
    std::unordered_map<std::string, std::string> placed;  // digest → identity
    for (auto& v : spec.vertices) {
      bool ignores = v.op.metadata.ignore_cache();
      std::vector<vertex_actor> inputs;
      for (const auto& input : v.inputs) {
        auto at = placed.find(input.vertex);
        if (at == placed.end())
          return to_caf(make_error(errc::invalid_argument, "invalid missing input digest " + input.vertex));
        ignores |= at->second.ends_with(ignoring);
        inputs.push_back(vertices.at(at->second).vertex);
      }
      // A request that may use the cache joins one that may not, never the other way round.
      auto identity = v.digest;
      if (ignores || vertices.contains(v.digest + ignoring)) identity += ignoring;
      placed[v.digest] = identity;
      auto digest = v.digest;
      auto found = vertices.find(identity);
      if (found == vertices.end()) {
        auto build = build_of(v.op);
        auto step_history = options.builds && !build.empty() ? options.builds->find(build) : nullptr;
        auto limits = std::make_shared<shared_limits>();
        limits->add(v.op.metadata);
        auto vertex = spawn_vertex(self, {std::move(v), std::move(inputs), handle_of<build_graph_actor>(self),
                                          options.peers, options.keys, options.step_history, options.io,
                                          options.imports, spec.imports, sources, limits});
        self->monitor(vertex);
        identities[vertex.address()] = identity;
        found =
            vertices.emplace(identity, entry{vertex, {}, std::move(limits), std::move(step_history)}).first;
      } else {
        if (!spec.imports.empty()) self->send(found->second.vertex, import_list{spec.imports});
        found->second.limits->add(v.op.metadata);
      }
      hold(found->first, found->second, who, session);
    }
    auto root = placed.find(spec.root.vertex);
    if (root == placed.end())
      return to_caf(make_error(errc::invalid_argument, "definition without its root"));
    return vertices.at(root->second).vertex;
  }

  void hold(const std::string& identity, entry& e, const progress_actor& who, const std::string& session) {
    auto address = who.address();
    auto [at, fresh] = holders.try_emplace(address, holder{who, session, {}});
    if (fresh) self->monitor(who);
    if (!e.holders.insert(address).second) return;
    at->second.vertices.insert(identity);
    self->send(e.vertex, join_atom::value, who, session);
  }

  void release(const caf::actor_addr& who) {
    auto found = holders.find(who);
    if (found == holders.end()) return;
    auto gone = std::move(found->second);
    holders.erase(found);
    self->demonitor(who);
    for (const auto& identity : gone.vertices) {
      auto at = vertices.find(identity);
      if (at == vertices.end()) continue;
      at->second.holders.erase(who);
      if (!at->second.holders.empty()) {
        self->send(at->second.vertex, leave_atom::value, gone.handle);
        continue;
      }
      auto vertex = at->second.vertex;
      vertices.erase(at);
      identities.erase(vertex.address());
      drop_claims(vertex.address());
      self->send_exit(vertex, caf::exit_reason::user_shutdown);
    }
  }

  vertex_actor claim(const std::string& key, const vertex_actor& who) {
    // Released meanwhile: it will not do the work, so nobody is to wait for it.
    if (!identities.contains(who.address())) return who;
    auto [at, fresh] = claims.try_emplace(key, who);
    if (fresh) {
      claimed[who.address()].push_back(key);
      return who;
    }
    keep_alive(at->second, who);
    return at->second;
  }

  /// Whoever holds the follower holds the owner too, so that the work outlives the build that began it.
  void keep_alive(const vertex_actor& owner, const vertex_actor& follower) {
    auto owner_id = identities.find(owner.address());
    auto follower_id = identities.find(follower.address());
    if (owner_id == identities.end() || follower_id == identities.end() || owner == follower) return;
    auto& owned = vertices.at(owner_id->second);
    for (const auto& address : vertices.at(follower_id->second).holders) {
      if (!owned.holders.insert(address).second) continue;
      holders.at(address).vertices.insert(owner_id->second);
    }
  }

  void drop_claims(const caf::actor_addr& vertex) {
    auto found = claimed.find(vertex);
    if (found == claimed.end()) return;
    for (const auto& key : found->second) claims.erase(key);
    claimed.erase(found);
  }

  /// Gathers the steps of everything that `who` holds; vertices that end meanwhile are left out.
  caf::result<cache_steps> steps(const caf::actor_addr& who) {
    auto found = holders.find(who);
    if (found == holders.end() || found->second.vertices.empty()) return cache_steps{};
    struct gathering {
      cache_steps all;
      std::size_t missing = 0;
    };
    auto state = std::make_shared<gathering>();
    state->missing = found->second.vertices.size();
    auto promise = self->make_response_promise<cache_steps>();
    auto one_less = [state, promise]() mutable {
      if (--state->missing == 0) promise.deliver(std::move(state->all));
    };
    for (const auto& identity : found->second.vertices)
      self->request(vertices.at(identity).vertex, caf::infinite, cache_atom::value)
          .then(
              [state, one_less](cache_steps& some) mutable {
                for (auto& s : some.steps) state->all.steps.push_back(std::move(s));
                one_less();
              },
              [one_less](caf::error&) mutable { one_less(); });
    return promise;
  }

  void down(const caf::actor_addr& who) {
    if (auto found = identities.find(who); found != identities.end()) {
      auto at = vertices.find(found->second);
      if (at != vertices.end()) {
        for (const auto& address : at->second.holders)
          if (auto h = holders.find(address); h != holders.end()) h->second.vertices.erase(found->second);
        vertices.erase(at);
      }
      identities.erase(found);
      drop_claims(who);
    }
    // A vertex may also be a holder (of a nested definition).
    release(who);
  }
};

}  // namespace

build_graph_actor::behavior_type build_graph(build_graph_actor::stateful_pointer<actor_state> self,
                                             build_graph_options options) {
  auto& state = self->state.hold<directory>("build_graph");
  state.self = self;
  state.options = std::move(options);
  state.end.watch(self, "the build graph");
  self->set_down_handler([&state](caf::down_msg& m) { state.down(m.source); });
  return {
      [&state](load_atom, graph_spec& spec, const progress_actor& holder, const std::string& session) {
        return state.load(spec, holder, session);
      },
      [&state](release_atom, const progress_actor& holder) { state.release(holder.address()); },
      [&state](cache_atom, const progress_actor& holder) { return state.steps(holder.address()); },
      [&state](claim_atom, const std::string& key, const vertex_actor& who) -> vertex_actor {
        return state.claim(key, who);
      },
      [&state](leave_atom, const vertex_actor& who) { state.drop_claims(who.address()); },
  };
}

}  // namespace kiln::actors
