// Fakes for the actors' tests: a scripted worker, a key database in memory, a collector of progress,
// a deterministic actor system.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <caf/all.hpp>

#include "actors/solve/build_graph.hpp"
#include "actors/handles.hpp"
#include "messages/actor_interfaces.hpp"
#include "store/database/cache_keys.hpp"
#include "tests/support/stepped_scheduler.hpp"

namespace kiln::test {

struct memory_cache_keys : store::cache_keys {
  using row = std::pair<cache_link, std::string>;
  std::multimap<std::string, row> links;
  std::multimap<std::string, row> backlinks;
  std::map<std::string, std::vector<cached_result>> by_key;

  bool has(std::string_view key) const override {
    std::string k(key);
    return links.contains(k) || backlinks.contains(k) || by_key.contains(k);
  }
  std::vector<std::string> children(std::string_view parent, const cache_link& link) const override {
    std::vector<std::string> out;
    for (auto [a, b] = links.equal_range(std::string(parent)); a != b; ++a)
      if (a->second.first == link) out.push_back(a->second.second);
    return out;
  }
  void for_each_link(std::string_view parent,
                     const std::function<void(const cache_link&, std::string_view)>& f) const override {
    for (auto [a, b] = links.equal_range(std::string(parent)); a != b; ++a)
      f(a->second.first, a->second.second);
  }
  void for_each_backlink(std::string_view child,
                         const std::function<void(const cache_link&, std::string_view)>& f) const override {
    for (auto [a, b] = backlinks.equal_range(std::string(child)); a != b; ++a)
      f(a->second.first, a->second.second);
  }
  std::vector<cached_result> results(std::string_view key) const override {
    auto found = by_key.find(std::string(key));
    if (found == by_key.end()) return {};
    return {found->second.rbegin(), found->second.rend()};
  }
  std::vector<std::string> keys_of_result(std::string_view id) const override {
    std::vector<std::string> out;
    for (const auto& [key, list] : by_key)
      for (const auto& r : list)
        if (r.id == id) out.push_back(key);
    return out;
  }
  status add(const cache_records& entries) override {
    for (const auto& l : entries.links) {
      links.emplace(l.parent, row{l.link, l.child});
      backlinks.emplace(l.child, row{l.link, l.parent});
    }
    for (const auto& r : entries.results) by_key[r.key].push_back(r.result);
    return {};
  }
  status release(std::string_view id) override {
    for (auto& [key, list] : by_key) std::erase_if(list, [&](const auto& r) { return r.id == id; });
    return {};
  }
  void for_each_key(const std::function<void(std::string_view)>& f) const override {
    for (const auto& [key, r] : links)
      if (!backlinks.contains(key)) f(key);
  }
};

/// What the fake worker does and saw.
struct worker_script {
  std::map<std::string, std::string> source_keys;  // identifier → key text; default: the identifier
  std::map<std::string, digest> contents;          // ref → content digest; default: of the ref's name
  std::map<std::string, error> failures;           // vertex name text (first arg or path) → error
  std::map<std::string, std::string> images;       // identifier → config; others cannot be resolved
  std::set<std::string> refs;                      // what can be pinned
  types::WorkerRecord record;                      // what it says it is …
  bool silent = false;                             // … when it is not
  std::vector<caf::typed_response_promise<types::WorkerRecord>> asked;  // what it is, while silent
  std::set<std::string> lost;                                           // of nodes that have gone
  bool hold = false;                                                    // runs wait until released
  // Meaning, for simulations: content of refs, and the work that is going on.
  std::function<digest(const std::string& ref)> content_of;
  std::function<void(const std::string&work)> started, ended;
  std::function<void(const run_request&, const std::string& ref)> evaluate;
  std::function<std::optional<error>(const run_request&)> refuse;  // asked when a run begins
  std::map<caf::actor_addr, std::map<std::string, int>> pins;      // by requester, then ref
  std::vector<std::string> unpinned;  // in the order in which requesters let them go

  struct held_run {
    std::string what;
    run_request request;
    caf::strong_actor_ptr requester;
    progress_actor progress;  // the vertex
    caf::typed_response_promise<run_reply> promise;
  };
  std::vector<held_run> held;

  std::vector<std::string> ran;       // what was run, in order
  std::vector<std::string> hashed;    // refs that were hashed
  std::vector<std::string> imported;  // results of imported caches that were asked for
  std::vector<cache_records> remembered;
  int pruned = 0;  // how often caches were
  bool holds_prunes = false;
  std::vector<caf::typed_response_promise<bool>> prunes;  // held
  std::vector<std::string> cancelled;                     // what was running when its requester went
  std::map<std::string, std::string> ref_of;              // what → newest ref
  int serial = 0;

  std::string finish(const std::string& what) {
    auto ref = what + "#" + std::to_string(++serial);
    refs.insert(ref);
    ref_of[what] = ref;
    return ref;
  }
  static std::string work_of(const std::string& what, const run_request& r) {
    std::string out = what;
    for (const auto& input : r.inputs) out += "|" + input;
    return out;
  }
  void end(held_run& h, bool fail) {
    if (ended) ended(work_of(h.what, h.request));
    if (fail) {
      h.promise.deliver(to_caf(make_error(errc::unknown, "boom")));
      return;
    }
    auto ref = finish(h.what);
    if (evaluate) evaluate(h.request, ref);
    pin(h.requester, ref);
    h.promise.deliver(run_reply{{ref}});
  }
  void pin(const caf::strong_actor_ptr& requester, const std::string& ref) {
    ++pins[caf::actor_cast<caf::actor_addr>(requester)][ref];
  }
  void unpin(const caf::strong_actor_ptr& requester, const std::string& ref) {
    auto found = pins.find(caf::actor_cast<caf::actor_addr>(requester));
    if (found == pins.end() || !found->second.contains(ref) || --found->second[ref] > 0) return;
    found->second.erase(ref);
    unpinned.push_back(ref);
  }
  bool is_pinned(const std::string& ref) const {
    return std::any_of(pins.begin(), pins.end(),
                       [&](const auto& entry) { return entry.second.contains(ref); });
  }
  void forget(const caf::actor_addr& requester) {
    pins.erase(requester);
    std::erase_if(held, [&](auto& entry) {
      bool gone = caf::actor_cast<caf::actor_addr>(entry.requester) == requester;
      if (gone) cancelled.push_back(entry.what);
      if (gone && ended) ended(work_of(entry.what, entry.request));
      return gone;
    });
  }
  /// Lets everything held go on.
  void release() {
    for (auto& p : std::exchange(prunes, {})) p.deliver(true);
    for (auto& p : std::exchange(asked, {})) p.deliver(record);
    for (auto& h : std::exchange(held, {})) end(h, false);
  }
  void release_one(std::size_t n, bool fail) {
    if (n >= held.size()) return;
    auto h = std::move(held[n]);
    held.erase(held.begin() + static_cast<std::ptrdiff_t>(n));
    end(h, fail);
  }
};

inline std::string what_of(const pb::Op& op) {
  if (op.has_source()) return op.source().identifier();
  if (op.has_exec()) return op.exec().meta().args(0);
  if (op.has_file()) {
    const auto& a = op.file().actions(0);
    return a.has_copy() ? "copy " + a.copy().src() : "mkdir " + a.mkdir().path();
  }
  return "other";
}

worker_actor::behavior_type fake_worker(worker_actor::pointer self, std::shared_ptr<worker_script> script);

struct progress_log {
  std::vector<ctl::StatusResponse> all;
  std::vector<std::string> completed() const {
    std::vector<std::string> out;
    for (const auto& s : all)
      for (const auto& v : s.vertexes())
        if (v.has_completed())
          out.push_back(v.name() + (v.cached()          ? " cached"
                                    : v.error().empty() ? ""
                                                        : " error: " + v.error()));
    return out;
  }
  std::vector<std::string> notes() const {
    std::vector<std::string> out;
    for (const auto& s : all)
      for (const auto& v : s.statuses()) out.push_back(v.id());
    return out;
  }
  std::string logs() const {
    std::string out;
    for (const auto& s : all)
      for (const auto& l : s.logs()) out += l.msg();
    return out;
  }
};

inline progress_actor::behavior_type collector(progress_actor::pointer, std::shared_ptr<progress_log> log) {
  return {[log](ctl::StatusResponse& s) { log->all.push_back(std::move(s)); }};
}

struct test_config : caf::actor_system_config {
  test_config() {
    add_message_types<caf::id_block::kiln>();
    add_message_types<caf::id_block::kiln_cluster>();
    test::stepped_scheduler::install(*this);
  }
};

/// Definitions as clients make them.
struct definition {
  pb::Definition def;
  std::string add(const pb::Op& op, bool ignore_cache = false) {
    auto bytes = op.SerializeAsString();
    def.add_def(bytes);
    auto digest = sha256(bytes).str();
    (*def.mutable_metadata())[digest].set_ignore_cache(ignore_cache);
    return digest;
  }
  std::string source(const std::string& identifier, bool ignore_cache = false) {
    pb::Op op;
    op.mutable_source()->set_identifier(identifier);
    return add(op, ignore_cache);
  }
  std::string run(const std::string& input, const std::string& command, bool ignore_cache = false) {
    pb::Op op;
    op.add_inputs()->set_digest(input);
    op.mutable_exec()->mutable_meta()->add_args(command);
    op.mutable_exec()->add_mounts()->set_dest("/");
    return add(op, ignore_cache);
  }
  std::string copy(const std::string& base, const std::string& from, const std::string& src) {
    pb::Op op;
    op.add_inputs()->set_digest(base);
    op.add_inputs()->set_digest(from);
    auto& a = *op.mutable_file()->add_actions();
    a.set_input(0);
    a.set_secondaryinput(1);
    a.mutable_copy()->set_src(src);
    a.mutable_copy()->set_dest("/");
    return add(op);
  }
  const pb::Definition& finish(const std::string& root) {
    pb::Op op;
    op.add_inputs()->set_digest(root);
    def.add_def(op.SerializeAsString());
    return def;
  }
};

/// One client that wants the result of a definition.
struct graph_client {
  std::shared_ptr<progress_log> log = std::make_shared<progress_log>();
  progress_actor holder;
  std::shared_ptr<std::vector<result<vertex_result>>> answers =
      std::make_shared<std::vector<result<vertex_result>>>();
  bool ok() const { return answers->size() == 1 && answers->front().ok(); }
  std::string ref() const { return ok() ? answers->front().value().ref : "none"; }
  const error& failure() const { return answers->front().error(); }
};

/// A client whose question is on its way to `graph`.
graph_client ask_graph(caf::actor_system& system, const build_graph_actor& graph, const pb::Definition& def,
                       std::vector<std::string> import_ids = {});

/// A graph directory over fakes, on a scheduler that runs one message at a time.
struct graph_fixture {
  test_config config;
  caf::actor_system system{config};
  test::stepped_scheduler& sched = test::stepped_scheduler::of(system);
  std::shared_ptr<worker_script> script = std::make_shared<worker_script>();
  memory_cache_keys keys;
  std::shared_ptr<exporters::import_table> imports = std::make_shared<exporters::import_table>();
  std::shared_ptr<actor_registry> registry = std::make_shared<actor_registry>();
  std::shared_ptr<actors::job_pool> io = std::make_shared<actors::job_pool>(0);
  worker_actor worker;
  build_graph_actor graph;

  graph_fixture() {
    worker = system.spawn(fake_worker, script);
    registry->put(actors::peers::worker_name, caf::actor_cast<caf::actor>(worker));
    graph = system.spawn(actors::build_graph,
                         actors::build_graph_options{{registry}, &keys, nullptr, io, imports});
    sched.run();
  }
  ~graph_fixture() {
    caf::anon_send_exit(graph, caf::exit_reason::user_shutdown);
    caf::anon_send_exit(worker, caf::exit_reason::user_shutdown);
    registry->erase(actors::peers::worker_name);
    graph = nullptr;
    worker = nullptr;
    sched.run();
    script->held.clear();
  }

  using client = graph_client;

  client ask(const pb::Definition& def, std::vector<std::string> import_ids = {}) {
    return ask_graph(system, graph, def, std::move(import_ids));
  }
  /// The client's build ends.
  void leave(client& c) {
    caf::anon_send_exit(c.holder, caf::exit_reason::user_shutdown);
    c.holder = nullptr;
    sched.run();
  }
  /// Lets what the worker holds finish.
  void resume() {
    caf::anon_send(worker, release_atom::value, "everything held");
    sched.run();
  }
  client build(const pb::Definition& def, std::vector<std::string> import_ids = {}) {
    auto c = ask(def, std::move(import_ids));
    sched.run();
    return c;
  }
};

}  // namespace kiln::test
