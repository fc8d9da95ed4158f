#include "actors/solve/build_graph.hpp"

#include <algorithm>
#include <cstdint>
#include <deque>
#include <iterator>
#include <map>
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
  std::map<caf::actor_addr, std::uint64_t> holders;  // and when they came to hold it
  std::shared_ptr<shared_limits> limits;
  // Of the build whose own it is: it may run on when that has ended.
  std::shared_ptr<workers::resolutions> resolutions;
};

struct holder {
  progress_actor handle;
  std::string session;
  std::map<std::uint64_t, std::string> vertices;  // by when: inputs before what is built on them
};

/// A definition on its way into the directory.
struct loading {
  struct placed_vertex {
    std::string identity;
    vertex_actor vertex;  // may die before all is placed: who is built on it finds out
  };

  graph_spec spec;
  std::shared_ptr<const std::vector<pb::SourceInfo>> sources;
  progress_actor who;
  std::string session;
  caf::typed_response_promise<vertex_actor> promise;
  std::unordered_map<std::string, placed_vertex> placed = {};  // by digest
  std::size_t next = 0;                                        // of the spec's vertices
};

struct directory {
  build_graph_impl::pointer self = nullptr;
  build_graph_options options;
  std::unordered_map<std::string, entry> vertices;  // by identity
  std::map<caf::actor_addr, std::string> identities;
  std::map<caf::actor_addr, holder> holders;
  std::unordered_map<std::string, vertex_actor> claims;  // by key
  std::map<caf::actor_addr, std::vector<std::string>> claimed;
  std::deque<loading> loadings;             // the first is being placed, some vertices at a time
  bool goes_on = false;                     // a message to go on with them is on its way
  std::map<std::uint64_t, holder> leaving;  // no more among `holders`, with what they are still to let go of
  std::uint64_t last_number = 0;
  ending end;

  ~directory() {
    for (auto& l : loadings) l.promise.deliver(to_caf(end.for_waiters()));
    for (auto& [id, e] : vertices) send_exit(caf::actor_cast<caf::actor>(e.vertex), end.for_dependants());
  }

  caf::result<vertex_actor> load(graph_spec& spec, const progress_actor& who, const std::string& session) {
    if (!options.peers.worker()) return peer_down(peers::worker_name);
    if (leaves(who)) return to_caf(make_error(errc::cancelled, "context canceled"));
    auto promise = self->make_response_promise<vertex_actor>();
    auto sources = std::make_shared<const std::vector<pb::SourceInfo>>(std::move(spec.sources));
    loadings.push_back({std::move(spec), std::move(sources), who, session, promise});
    if (!goes_on) go_on();
    return promise;
  }

  /// Places the next vertices; others are answered before it goes on.
  void go_on() {
    auto left = options.vertices_at_once;
    while (left > 0 && !loadings.empty()) {
      auto first = loadings.begin();
      auto& all = first->spec.vertices;
      if (first->next < all.size()) {
        --left;
        if (auto placed = place(*first, all[first->next++]); !placed.ok())
          end_loading(first, std::move(placed).error());
        continue;
      }
      auto root = first->placed.find(first->spec.root.vertex);
      if (root != first->placed.end()) end_loading(first, root->second.vertex);
      else end_loading(first, make_error(errc::invalid_argument, "definition without its root"));
    }
    goes_on = !loadings.empty();
    if (goes_on) self->send(self, load_atom::value);
  }

  /// The next after the one that has ended.
  std::deque<loading>::iterator end_loading(std::deque<loading>::iterator at, result<vertex_actor> outcome) {
    auto promise = std::move(at->promise);
    auto next = loadings.erase(at);
    answer(promise, std::move(outcome));
    return next;
  }

  status place(loading& l, vertex_spec& v) {
    bool ignores = v.op.metadata.ignore_cache();
    std::vector<vertex_actor> inputs;
    for (const auto& input : v.inputs) {
      auto at = l.placed.find(input.vertex);
      if (at == l.placed.end())
        return make_error(errc::invalid_argument, "invalid missing input digest " + input.vertex);
      ignores |= at->second.identity.ends_with(ignoring);
      inputs.push_back(at->second.vertex);
    }
    // A request that may use the cache joins one that may not, never the other way round.
    auto identity = v.digest;
    if (ignores || vertices.contains(v.digest + ignoring)) identity += ignoring;
    auto digest = v.digest;
    auto found = vertices.find(identity);
    if (found == vertices.end()) {
      auto build = build_of(v.op);
      auto resolutions = options.builds && !build.empty() ? options.builds->find(build) : nullptr;
      auto limits = std::make_shared<shared_limits>();
      limits->add(v.op.metadata);
      auto vertex = spawn_vertex(self, {std::move(v), std::move(inputs), handle_of<build_graph_actor>(self),
                                        options.peers, options.keys, options.step_history, options.io,
                                        options.imports, l.spec.imports, l.sources, limits});
      self->monitor(vertex);
      identities[vertex.address()] = identity;
      found = vertices.emplace(identity, entry{vertex, {}, std::move(limits), std::move(resolutions)}).first;
    } else {
      if (!l.spec.imports.empty()) self->send(found->second.vertex, import_list{l.spec.imports});
      found->second.limits->add(v.op.metadata);
    }
    l.placed[digest] = {identity, found->second.vertex};
    hold(identity, found->second, l.who, l.session);
    return {};
  }

  void hold(const std::string& identity, entry& e, const progress_actor& who, const std::string& session) {
    auto address = who.address();
    auto [at, fresh] = holders.try_emplace(address, holder{who, session, {}});
    if (fresh) self->monitor(who);
    if (!e.holders.emplace(address, ++last_number).second) return;
    at->second.vertices.emplace(last_number, identity);
    self->send(e.vertex, join_atom::value, who, session);
  }

  void release(const caf::actor_addr& who) {
    for (auto at = loadings.begin(); at != loadings.end();)
      if (at->who.address() != who) ++at;
      else at = end_loading(at, make_error(errc::cancelled, "context canceled"));
    auto found = holders.find(who);
    if (found == holders.end()) return;
    self->demonitor(who);
    auto number = ++last_number;
    leaving.emplace(number, std::move(found->second));
    holders.erase(found);
    let_go(number);
  }

  /// Takes the next vertices from somebody who leaves, last ones first: whoever joins a vertex meanwhile
  /// finds all that it is built on.
  void let_go(std::uint64_t number) {
    auto& gone = leaving.at(number);
    for (std::size_t n = 0; n < options.vertices_at_once && !gone.vertices.empty(); ++n)
      let_go(gone.vertices.extract(std::prev(gone.vertices.end())).mapped(), gone.handle);
    if (!gone.vertices.empty()) return self->send(self, release_atom::value, number);
    leaving.erase(number);
  }

  void let_go(const std::string& identity, const progress_actor& who) {
    auto at = vertices.find(identity);
    if (at == vertices.end() || at->second.holders.erase(who.address()) == 0) return;
    auto vertex = at->second.vertex;
    if (!at->second.holders.empty()) return self->send(vertex, leave_atom::value, who);
    vertices.erase(at);
    identities.erase(vertex.address());
    drop_claims(vertex.address());
    self->send_exit(vertex, caf::exit_reason::user_shutdown);
  }

  bool leaves(const progress_actor& who) const {
    return std::any_of(leaving.begin(), leaving.end(),
                       [&](const auto& entry) { return entry.second.handle == who; });
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
    for (const auto& [address, since] : vertices.at(follower_id->second).holders) {
      auto who = holders.find(address);
      if (who == holders.end()) continue;  // it leaves
      if (owned.holders.emplace(address, ++last_number).second)
        who->second.vertices.emplace(last_number, owner_id->second);
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
    for (const auto& [since, identity] : found->second.vertices)
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
        for (const auto& [address, since] : at->second.holders)
          if (auto h = holders.find(address); h != holders.end()) h->second.vertices.erase(since);
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

build_graph_impl::behavior_type build_graph(build_graph_impl::stateful_pointer<actor_state> self,
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
      [&state](load_atom) { state.go_on(); },
      [&state](release_atom, std::uint64_t number) { state.let_go(number); },
  };
}

}  // namespace kiln::actors
