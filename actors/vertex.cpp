#include "actors/vertex.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include <spdlog/spdlog.h>

#include "actors/graph_spec.hpp"
#include "actors/handles.hpp"
#include "actors/key_store.hpp"
#include "actors/step_memory.hpp"
#include "actors/vertex_progress.hpp"
#include "configs/placing.hpp"
#include "configs/solving.hpp"
#include "solver/cache_key.hpp"
#include "solver/error_details.hpp"
#include "solver/graph.hpp"

namespace kiln::actors {

namespace {

using vertex_impl = vertex_actor::extend<caf::reacts_to<tick_atom, std::uint64_t>>;

enum class phase { idle, keying, probing, collecting, claiming, following, running, saving, done, failed };

enum class fact { unknown, asked, known };

struct input_facts {
  fact definition_keys = fact::unknown;
  fact content_keys = fact::unknown;
  fact result = fact::unknown;
  fact content = fact::unknown;
  std::vector<std::string> keys;
  vertex_result value;
  digest content_digest;
};

/// How far an output is wanted.
enum class demand { none, keys, content_keys, result };

struct output_facts {
  std::optional<solver::key_search> search;
  demand wanted = demand::none;
  bool loading = false;
  bool evicted = false;  // keys match but nothing could be loaded
  std::size_t asked_peers = 0;  // how many lookups they were asked
  bool asking_peers = false;
  std::optional<vertex_result> result;
  std::vector<caf::typed_response_promise<key_set>> key_waiters;
  std::vector<caf::typed_response_promise<key_set>> content_key_waiters;
  std::vector<caf::typed_response_promise<vertex_result>> result_waiters;
};

class vertex_state {
 public:
  static inline const char* name = "vertex";

  ~vertex_state() { refuse_waiters(make_error(errc::cancelled, "context canceled")); }

  vertex_impl::behavior_type start(vertex_impl::stateful_pointer<vertex_state> self, vertex_options options) {
    self_ = self;
    o_ = std::move(options);
    inputs_.resize(o_.inputs.size());
    progress_.emplace(o_.spec);
    add_imports(o_.imports);
    return {
        [this](join_atom, const progress_actor& holder, const std::string& session) {
          progress_->join(holder, session);
        },
        [this](leave_atom, const progress_actor& holder) { progress_->leave(holder); },
        [this](keys_atom, std::int32_t output, bool by_content) { return ask_keys(output, by_content); },
        [this](result_atom, std::int32_t output) { return ask_result(output); },
        [this](lost_atom, std::int32_t output, const std::string& ref) { lose(output, ref); },
        [this](const import_list& imports) { add_imports(imports.ids); },
        [this](cache_atom) { return steps(); },
        [this](ctl::StatusResponse& status) {
          if (phase_ == phase::following) {
            progress_->adopt(std::move(status));
          } else {
            progress_->forward(std::move(status));
          }
        },
        [this](tick_atom, std::uint64_t job) { jobs_.finish(job); },
    };
  }

 private:
  // What is asked.

  caf::result<key_set> ask_keys(int output, bool by_content) {
    auto& out = outputs_[output];
    if (phase_ == phase::failed) return to_caf(failure_);
    if (out.result) return key_set{out.result->keys};
    if (phase_ == phase::done) return to_caf(no_such_output(output));
    // Whoever asks while it is being made need not wait for that: keys tell what is known.
    if (phase_ >= phase::collecting) return key_set{present_keys(output, out)};
    auto promise = self_->make_response_promise<key_set>();
    (by_content ? out.content_key_waiters : out.key_waiters).push_back(promise);
    want(out, by_content ? demand::content_keys : demand::keys);
    return promise;
  }

  caf::result<vertex_result> ask_result(int output) {
    auto& out = outputs_[output];
    if (phase_ == phase::failed) return to_caf(failure_);
    if (out.result) return *out.result;
    if (phase_ == phase::done)
      return to_caf(no_such_output(output));
    auto promise = self_->make_response_promise<vertex_result>();
    out.result_waiters.push_back(promise);
    want(out, demand::result);
    return promise;
  }

  error no_such_output(int output) const {
    return make_error(errc::invalid_argument, o_.spec.name + " has no output " + std::to_string(output));
  }

  std::vector<std::string> present_keys(int index, output_facts& out) {
    if (ignores_cache() && !is_root()) return {};
    return search_of(index, out).matches();
  }

  /// Lookups from now on go to these caches too.
  void add_imports(const std::vector<std::string>& ids) {
    for (const auto& id : ids) {
      auto cache = o_.import_table ? o_.import_table->find(id) : nullptr;
      if (!cache || std::find(imports_.begin(), imports_.end(), cache) != imports_.end()) continue;
      imports_.push_back(std::move(cache));
      for (auto& [index, out] : outputs_) {
        out.search.reset();
        out.evicted = false;
      }
    }
  }

  cache_steps steps() {
    cache_steps all;
    for (auto& [index, out] : outputs_) {
      if (!out.result && !out.search) continue;
      cache_step step;
      step.vertex = o_.spec.digest;
      step.index = index;
      step.inputs = o_.spec.inputs;
      step.original = o_.spec.op.vertex;
      if (o_.spec.op.op.has_source()) step.source = o_.spec.op.op.source();
      step.platform = o_.spec.op.platform;
      step.origin = origin_;
      step.pin = pin_;
      step.keys = out.result ? out.result->keys : present_keys(index, out);
      if (out.result) step.ref = out.result->ref;
      if (o_.spec.op.metadata.has_export_cache()) step.export_cache = o_.spec.op.metadata.export_cache().value() ? 1 : 0;
      all.steps.push_back(std::move(step));
    }
    return all;
  }

  void want(output_facts& out, demand d) {
    out.wanted = std::max(out.wanted, d);
    advance();
  }

  // The state machine.

  void set_phase(phase p) { phase_ = p; }

  bool ignores_cache() const { return o_.spec.op.metadata.ignore_cache(); }
  bool is_root() const { return inputs_.empty(); }

  /// Does whatever the facts and the demand call for next; called when either changed.
  void advance() {
    if (phase_ == phase::done || phase_ == phase::failed) return;
    if (maps_ == fact::unknown) return ask_cache_map(0);
    if (maps_ != fact::known) return;
    for (auto& [index, out] : outputs_) {
      if (out.wanted != demand::none && !out.result) probe(index, out);
      if (phase_ == phase::failed) return;
    }
  }

  solver::key_search& search_of(int index, output_facts& out) {
    if (!out.search) out.search = make_search(index);
    return *out.search;
  }

  solver::key_search make_search(int index) {
    solver::key_search search(map_, index);
    for (const auto& root : further_roots_) search.add_root(root);
    key_reader db(*o_.keys, imports_);
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      search.add_input_keys(static_cast<int>(i), inputs_[i].keys, db);
      if (inputs_[i].content == fact::known)
        search.set_content(static_cast<int>(i), inputs_[i].content_digest, db);
    }
    return search;
  }

  void probe(int index, output_facts& out) {
    if (phase_ > phase::probing) {
      if (phase_ == phase::collecting && out.wanted == demand::result) collect();
      // A running or saving vertex answers everyone when it is done; keys are not known before.
      if (phase_ >= phase::claiming) return;
      if (out.wanted == demand::result) return;
    }
    if (phase_ < phase::probing) set_phase(phase::probing);

    bool all_keys = true;
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      if (inputs_[i].definition_keys == fact::unknown) ask_input_keys(i, false);
      all_keys &= inputs_[i].definition_keys == fact::known;
    }
    if (!all_keys) return;

    auto& search = search_of(index, out);
    auto matches = ignores_cache() && !is_root() ? std::vector<std::string>{} : search.matches();
    if (!has_results(matches) && ask_peers(index, out)) return;
    if (is_root() && map_.more && !ignores_cache() && !has_results(matches)) return ask_cache_map(++map_index_);
    give_keys(out.key_waiters, matches);
    if (!matches.empty()) {
      give_keys(out.content_key_waiters, matches);
      if (!ignores_cache() && !out.evicted) {
        if (out.wanted == demand::result) return load(index, out, std::move(matches));
        if (!is_root() && has_results(matches)) progress_->cached();
        return;
      }
    } else if (out.wanted >= demand::content_keys && !ignores_cache()) {
      if (!probed_by_content(search)) return;
      if (!search.matches().empty()) return probe(index, out);
    }
    if (out.wanted < demand::content_keys) return;
    give_keys(out.content_key_waiters, matches);
    if (out.wanted == demand::result) {
      set_phase(phase::collecting);
      collect();
    }
  }

  /// Asks the other nodes what this one does not know, once for everything that is looked up. True while
  /// their answer is awaited; what they know is then in the database, as if it had always been.
  bool ask_peers(int index, output_facts& out) {
    if (out.asking_peers) return true;
    if (!o_.cluster || ignores_cache()) return false;
    auto& search = search_of(index, out);
    cache_question question;
    for (const auto& root : search.roots())
      if (!solver::is_random(root)) question.roots.push_back(root);
    for (const auto& e : search.lookups())
      question.links.push_back({e.parent, e.link.input, e.link.output, e.link.digest, e.link.selector});
    auto lookups = question.roots.size() + question.links.size();
    if (lookups <= out.asked_peers) return false;
    out.asked_peers = lookups;
    out.asking_peers = true;
    auto go_on = [this, index] {
      outputs_[index].asking_peers = false;
      if (phase_ == phase::collecting) return collect();
      advance();
    };
    self_->request(o_.cluster, caf::infinite, ask_peers_atom::value, std::move(question))
        .then(
            [this, index, go_on](cache_facts& facts) {
              if (facts.links.empty() && facts.results.empty()) return go_on();
              store::cache_keys::batch batch;
              for (const auto& l : facts.links) batch.links.push_back({l.link.parent, to_link(l.link), l.child});
              for (const auto& r : facts.results) batch.results.push_back({r.key, {r.id, r.created_at_ns}});
              save(std::move(batch), [this, index, go_on] {
                outputs_[index].search.reset();
                outputs_[index].evicted = false;
                go_on();
              });
            },
            [go_on](caf::error&) { go_on(); });
    return true;
  }

  /// Looks inputs up by content where their keys lead nowhere. True once that is decided.
  bool probed_by_content(solver::key_search& search) {
    bool settled = true, hopeless = false;
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      auto n = static_cast<int>(i);
      if (search.matched(n)) continue;
      if (inputs_[i].content_keys == fact::unknown) ask_input_keys(i, true);
      if (inputs_[i].content_keys != fact::known) {
        settled = false;
      } else if (search.may_use_content(n)) {
        settled = false;
        need_content(i);
      } else {
        hopeless = true;
      }
    }
    if (hopeless) return true;
    if (!settled) return false;
    if (!search.matches().empty()) return true;
    // Every input leads somewhere, but not to one place: content may still.
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      if (!search.may_use_content(static_cast<int>(i))) continue;
      settled = false;
      need_content(i);
    }
    return settled;
  }

  /// A miss: gathers what running needs, looks up once more, then claims the work.
  void collect() {
    bool ready = true;
    bool hit = std::any_of(outputs_.begin(), outputs_.end(), [&](auto& entry) {
      return entry.second.search && !entry.second.search->matches().empty();
    });
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      need_result(i);
      if (map_.dependencies[i].content_based && !hit) need_content(i);
      ready &= inputs_[i].result == fact::known;
      if (map_.dependencies[i].content_based && !hit) ready &= inputs_[i].content == fact::known;
    }
    if (!ready) return;
    if (!ignores_cache() && !is_root()) {
      for (auto& [index, out] : outputs_) {
        if (out.wanted != demand::result || out.result || out.evicted) continue;
        auto matches = search_of(index, out).matches();
        if (!matches.empty()) return load(index, out, std::move(matches));
        if (ask_peers(index, out)) return;
      }
    }
    claim();
  }

  // Questions to others, and what their answers change.

  void ask_cache_map(int index) {
    maps_ = fact::asked;
    if (phase_ == phase::idle) set_phase(phase::keying);
    if (o_.spec.op.op.has_source()) progress_->started();
    self_->request(o_.worker, caf::infinite, key_request{o_.spec.op, index, progress_->sessions()}, progress_handle())
        .then(
            [this, index](key_reply& reply) {
              if (o_.spec.op.op.has_source()) progress_->completed("", false);
              take_cache_map(index, reply);
            },
            [this](caf::error& e) { fail(wrap(from_caf(e))); });
  }

  void take_cache_map(int index, key_reply& reply) {
    if (reply.dependencies.size() != inputs_.size())
      return fail(wrap(make_error(errc::internal, "op of " + o_.spec.name + " keys " +
                                                      std::to_string(reply.dependencies.size()) +
                                                      " inputs, it has " + std::to_string(inputs_.size()))));
    if (index == 0) {
      map_.op_digest = reply.op_digest;
      origin_ = std::move(reply.origin);
      pin_ = std::move(reply.pin);
      for (auto& d : reply.dependencies)
        map_.dependencies.push_back({std::move(d.selector), d.content_based, std::move(d.content)});
    } else {
      further_roots_.push_back(reply.op_digest);
      for (auto& [n, out] : outputs_)
        if (out.search) out.search->add_root(reply.op_digest);
    }
    map_.more = reply.more && map_index_ + 1 < configs::solving::cache_maps_max;
    maps_ = fact::known;
    advance();
  }

  void ask_input_keys(std::size_t i, bool by_content) {
    auto& input = inputs_[i];
    (by_content ? input.content_keys : input.definition_keys) = fact::asked;
    self_->request(o_.inputs[i], caf::infinite, keys_atom::value, o_.spec.inputs[i].index, by_content)
        .then(
            [this, i, by_content](key_set& reply) {
              (by_content ? inputs_[i].content_keys : inputs_[i].definition_keys) = fact::known;
              take_input_keys(i, reply.keys);
              advance();
            },
            [this](caf::error& e) { fail(input_error(e)); });
  }

  void take_input_keys(std::size_t i, const std::vector<std::string>& keys) {
    auto& known = inputs_[i].keys;
    for (const auto& key : keys)
      if (std::find(known.begin(), known.end(), key) == known.end()) known.push_back(key);
    key_reader db(*o_.keys, imports_);
    for (auto& [n, out] : outputs_)
      if (out.search) out.search->add_input_keys(static_cast<int>(i), known, db);
  }

  void need_result(std::size_t i) {
    auto& input = inputs_[i];
    if (input.result != fact::unknown) return;
    input.result = fact::asked;
    self_->request(o_.inputs[i], caf::infinite, result_atom::value, o_.spec.inputs[i].index)
        .then(
            [this, i](vertex_result& reply) {
              inputs_[i].result = fact::known;
              inputs_[i].value = reply;
              take_input_keys(i, reply.keys);
              if (inputs_[i].content == fact::asked) ask_content(i);
              advance();
            },
            [this](caf::error& e) { fail(input_error(e)); });
  }

  void need_content(std::size_t i) {
    auto& input = inputs_[i];
    if (input.content != fact::unknown) return;
    input.content = fact::asked;
    need_result(i);
    if (input.result == fact::known) ask_content(i);
  }

  void ask_content(std::size_t i) {
    const auto& ref = inputs_[i].value.ref;
    checksum_request request{o_.spec.input_originals[i], ref, map_.dependencies[i].content, progress_->sessions()};
    self_->request(o_.worker, caf::infinite, std::move(request), progress_handle())
        .then(
            [this, i](const digest& content) {
              inputs_[i].content = fact::known;
              inputs_[i].content_digest = content;
              key_reader db(*o_.keys, imports_);
              for (auto& [n, out] : outputs_)
                if (out.search) out.search->set_content(static_cast<int>(i), content, db);
              advance();
            },
            [this, i](caf::error& e) {
              auto failure = from_caf(e);
              if (failure.code == errc::cancelled) return fail(std::move(failure));
              if (remake_input(failure)) return;
              // What the build's own files lack is nothing that clients could look for elsewhere.
              if (failure.code == errc::not_found) failure.code = errc::unknown;
              fail(wrap(std::move(failure).with_context("failed to compute cache key"), static_cast<int>(i)));
            });
  }

  // Hits.

  /// A result that may be loaded: a record here, or (with `import`) one of an imported cache.
  struct candidate {
    store::cached_result result;
    std::shared_ptr<const exporters::imported_cache> import;
  };

  std::vector<candidate> results_of(const std::string& key) const {
    std::vector<candidate> out;
    if (solver::is_random(key)) return out;
    for (auto& r : o_.keys->results(key)) out.push_back({std::move(r), nullptr});
    for (const auto& import : imports_)
      for (auto& r : import->results(key)) out.push_back({{std::move(r.id), r.created_at_ns}, import});
    return out;
  }

  bool has_results(const std::vector<std::string>& keys) const {
    return std::any_of(keys.begin(), keys.end(), [&](const auto& key) { return !results_of(key).empty(); });
  }

  void load(int index, output_facts& out, std::vector<std::string> matches) {
    if (out.loading) return;
    std::vector<candidate> candidates;
    for (const auto& key : matches) {
      auto more = results_of(key);
      candidates.insert(candidates.end(), more.begin(), more.end());
    }
    std::stable_sort(candidates.begin(), candidates.end(), [](const candidate& a, const candidate& b) {
      return std::pair(a.import == nullptr, a.result.created_at_ns) <
             std::pair(b.import == nullptr, b.result.created_at_ns);
    });
    out.loading = true;
    load_next(index, std::move(candidates), std::move(matches));
  }

  /// Tries the newest (last) candidate first, what is here before what is imported.
  void load_next(int index, std::vector<candidate> candidates, std::vector<std::string> matches) {
    auto& out = outputs_[index];
    if (candidates.empty()) {
      out.loading = false;
      out.evicted = true;
      if (!is_root()) saw_evicted_ = true;
      if (phase_ == phase::collecting) return collect();
      return advance();
    }
    auto next = std::move(candidates.back());
    candidates.pop_back();
    if (next.import) return load_imported(index, std::move(next), std::move(candidates), std::move(matches));
    auto id = next.result.id;
    if (id == scratch_result) return loaded(index, "", std::move(matches));
    self_->request(o_.worker, caf::infinite, pin_atom::value, id)
        .then([this, index, id, matches](bool) mutable { loaded(index, id, std::move(matches)); },
              [this, index, id, candidates, matches](caf::error& e) mutable {
                // Gone or unreadable: forget it and look further; the worst case is a rebuild.
                if (from_caf(e).code == errc::not_found) forget(id);
                load_next(index, std::move(candidates), std::move(matches));
              });
  }

  void load_imported(int index, candidate next, std::vector<candidate> others, std::vector<std::string> matches) {
    import_load request{next.import->table_id(), next.result.id, o_.spec.op.vertex, progress_->sessions()};
    self_->request(o_.worker, caf::infinite, std::move(request), progress_handle())
        .then(
            [this, index, created = next.result.created_at_ns, matches](run_reply& reply) mutable {
              auto ref = reply.outputs.empty() ? std::string() : reply.outputs.front();
              keep_imported(index, ref, created, matches);
              loaded(index, ref, std::move(matches));
            },
            [this, index, others, matches](caf::error& e) mutable {
              spdlog::warn("imported cache of {} not usable: {}", o_.spec.name, from_caf(e).message);
              load_next(index, std::move(others), std::move(matches));
            });
  }

  /// What an import gave is known here from now on.
  void keep_imported(int index, const std::string& ref, std::int64_t created, const std::vector<std::string>& keys) {
    auto& search = search_of(index, outputs_[index]);
    store::cache_keys::batch batch;
    for (const auto& key : keys) {
      if (solver::is_random(key)) continue;
      if (!is_root()) append_links(batch, search.links_to(key));
      batch.results.push_back({key, {ref.empty() ? scratch_result : ref, created}});
    }
    save(std::move(batch));
  }

  void forget(const std::string& id, std::function<void()> then = [] {}) {
    jobs_.run<bool>(
        self_, *o_.io, [keys = o_.keys, id]() -> result<bool> {
          KILN_CHECK(keys->release(id));
          return true;
        },
        [then = std::move(then)](result<bool>) { then(); });
  }

  void loaded(int index, const std::string& ref, std::vector<std::string> matches) {
    auto& out = outputs_[index];
    out.loading = false;
    progress_->cached();
    // Keys this result was not yet reached by lead to it from now on.
    if (!is_root()) {
      store::cache_keys::batch batch;
      append_links(batch, search_of(index, out).links_to(matches.front()));
      save(std::move(batch));
    }
    finish(index, {ref, std::move(matches)});
    bool open = std::any_of(outputs_.begin(), outputs_.end(), [](const auto& entry) {
      return !entry.second.result && entry.second.wanted == demand::result;
    });
    if (phase_ == phase::collecting && open) return collect();
    if (phase_ <= phase::collecting) {
      set_phase(phase::probing);
      advance();
    }
  }

  void finish(int index, vertex_result value) {
    auto& out = outputs_[index];
    out.result = std::move(value);
    give_keys(out.key_waiters, out.result->keys);
    give_keys(out.content_key_waiters, out.result->keys);
    for (auto& p : std::exchange(out.result_waiters, {})) p.deliver(*out.result);
  }

  static void give_keys(std::vector<caf::typed_response_promise<key_set>>& waiters,
                        const std::vector<std::string>& keys) {
    for (auto& p : std::exchange(waiters, {})) p.deliver(key_set{keys});
  }

  // Misses.

  void claim() {
    if (phase_ >= phase::claiming && phase_ != phase::following) return;
    set_phase(phase::claiming);
    if (ignores_cache()) return run();
    claimed_ = true;
    auto key = make_search(0).final_key();
    self_->request(o_.graph, caf::infinite, claim_atom::value, key, handle_of<vertex_actor>(self_))
        .then(
            [this](const vertex_actor& owner) {
              if (owner == handle_of<vertex_actor>(self_)) return run();
              follow(owner);
            },
            [this](caf::error& e) { fail(wrap(from_caf(e))); });
  }

  /// Another vertex does the same work: its results are ours.
  void follow(const vertex_actor& owner) {
    set_phase(phase::following);
    owner_ = owner;
    progress_->started();
    auto group = progress_->sessions();
    self_->send(owner, join_atom::value, progress_handle(), group.ids.empty() ? std::string() : group.ids.front());
    for (auto& [index, out] : outputs_)
      if (!out.result && out.wanted == demand::result) follow_output(owner, index);
  }

  void follow_output(const vertex_actor& owner, int index) {
    self_->request(owner, caf::infinite, result_atom::value, index)
        .then(
            [this, owner, index](vertex_result& reply) {
              if (reply.ref.empty()) return followed(owner, index, reply);
              self_->request(o_.worker, caf::infinite, pin_atom::value, reply.ref)
                  .then([this, owner, index, reply](bool) { followed(owner, index, reply); },
                        [this, owner, index, ref = reply.ref](caf::error&) {
                          self_->send(owner, lost_atom::value, static_cast<std::int32_t>(index), ref);
                          claim_again(owner);
                        });
            },
            [this, owner](caf::error& e) {
              auto failure = from_caf(e);
              if (failure.code == errc::cancelled || failure.code == errc::unavailable ||
                  !solver::has_detail(failure, solver::vertex_detail_type))
                return claim_again(owner);
              fail(std::move(failure), true);
            });
  }

  void claim_again(const vertex_actor& owner) {
    if (phase_ != phase::following) return;
    self_->send(owner, leave_atom::value, progress_handle());
    claim();
  }

  void followed(const vertex_actor& owner, int index, const vertex_result& reply) {
    if (phase_ != phase::following) return;
    finish(index, reply);
    bool open = std::any_of(outputs_.begin(), outputs_.end(), [](const auto& entry) {
      return !entry.second.result && entry.second.wanted == demand::result;
    });
    if (open) return;
    self_->send(owner, leave_atom::value, progress_handle());
    progress_->completed("", false);
    // Another output may still be asked for later.
    set_phase(phase::probing);
  }

  void run() {
    set_phase(phase::running);
    progress_->started();
    explain();
    if (o_.spec.op.op.has_build()) return run_build();
    run_request request{o_.spec.op, {}, progress_->sessions()};
    for (const auto& input : inputs_) request.inputs.push_back(input.value.ref);
    self_->request(o_.worker, caf::infinite, std::move(request), progress_handle())
        .then([this](run_reply& reply) { ran(std::move(reply.outputs)); },
              [this](caf::error& e) { run_failed(from_caf(e)); });
  }

  void run_failed(error e) {
    if (remake_input(e)) return;
    fail(wrap(std::move(e)));
  }

  /// An input is gone with its node: has it made again and goes on from there. False when that is not what
  /// the error says.
  bool remake_input(const error& e) {
    auto ref = solver::lost_ref_of(e);
    if (ref.empty() || remade_ >= configs::placing::rederived_max) return false;
    bool mine = false;
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      auto& input = inputs_[i];
      if (input.result != fact::known || input.value.ref != ref) continue;
      mine = true;
      self_->send(o_.inputs[i], lost_atom::value, o_.spec.inputs[i].index, ref);
      input.result = fact::unknown;
      // Made again it may come out differently.
      input.content = fact::unknown;
    }
    if (!mine) return false;
    ++remade_;
    spdlog::info("{}: {}", o_.spec.name, e.message);
    for (auto& [index, out] : outputs_)
      if (!out.result) out.search.reset();
    if (phase_ >= phase::claiming) set_phase(phase::collecting);
    if (phase_ == phase::collecting) {
      collect();
    } else {
      advance();
    }
    return true;
  }

  /// Whoever uses this output could not get it: it is not to be had any more.
  void lose(int index, const std::string& ref) {
    auto found = outputs_.find(index);
    if (found == outputs_.end() || !found->second.result || found->second.result->ref != ref) return;
    auto& out = found->second;
    out.result.reset();
    out.search.reset();
    out.wanted = demand::none;
    out.evicted = false;
    out.asked_peers = 0;
    if (owner_) self_->send(owner_, lost_atom::value, index, ref);
    if (phase_ == phase::done) set_phase(phase::probing);
    // Who asks before the database has forgotten it tries it once more, in vain.
    forget(ref);
  }

  /// The op is LLB in a file of its input: solves that, on behalf of everyone who holds this vertex.
  void run_build() {
    const auto& build = o_.spec.op.op.build();
    auto input = build.inputs().find("buildkit.llb.definition");
    if (build.builder() != -1 || input == build.inputs().end() || input->second.input() < 0 ||
        static_cast<std::size_t>(input->second.input()) >= inputs_.size())
      return fail(wrap(make_error(errc::invalid_argument, "invalid build op: no LLB definition input")));
    auto file = build.attrs().find("llbbuild.filename");
    gw::ReadFileRequest read;
    read.set_filepath(file == build.attrs().end() ? "buildkit.llb.definition" : file->second);
    ref_scope scope{inputs_[static_cast<std::size_t>(input->second.input())].value.ref, progress_->sessions()};
    self_->request(o_.worker, caf::infinite, scope, read)
        .then([this](gw::ReadFileResponse& reply) { solve_nested(reply.data()); },
              [this](caf::error& e) { run_failed(from_caf(e)); });
  }

  void solve_nested(const std::string& bytes) {
    pb::Definition definition;
    if (!definition.ParseFromString(bytes))
      return fail(wrap(make_error(errc::invalid_argument, "failed to parse the LLB definition of a build op")));
    auto none = solver::entitlements::grant({}, {});
    solver::load_options options;
    options.default_platform = o_.spec.op.platform;
    options.granted = &*none;
    auto g = solver::load(definition, options);
    if (!g.ok()) return fail(wrap(std::move(g).error().with_context("failed to load LLB")));
    auto group = progress_->sessions();
    auto index = g->root.index;
    self_->request(o_.graph, caf::infinite, load_atom::value, to_spec(*g, o_.spec.op.cache_mount_namespace),
                   progress_handle(), group.ids.empty() ? std::string() : group.ids.front())
        .then(
            [this, index](const vertex_actor& root) {
              self_->request(root, caf::infinite, result_atom::value, static_cast<std::int32_t>(index))
                  .then(
                      [this](vertex_result& reply) {
                        if (reply.ref.empty()) return ran({""});
                        self_->request(o_.worker, caf::infinite, pin_atom::value, reply.ref)
                            .then([this, ref = reply.ref](bool) { ran({ref}); },
                                  [this](caf::error& e) { fail(wrap(from_caf(e))); });
                      },
                      [this](caf::error& e) { fail(input_error(e)); });
            },
            [this](caf::error& e) { fail(wrap(from_caf(e))); });
  }

  solver::step_record step_now() {
    auto search = make_search(0);
    solver::step_record now;
    now.op_digest = map_.op_digest.str();
    for (int i = 0; i < search.inputs(); ++i)
      now.inputs.push_back(
          {o_.spec.input_names[static_cast<std::size_t>(i)], search.primary(i), search.has_content(i)});
    return now;
  }

  void explain() {
    if (!o_.memory || is_root()) return;
    auto cause = ignores_cache() ? solver::miss_cause::ignored
                 : saw_evicted_  ? solver::miss_cause::evicted
                                 : solver::miss_cause::no_match;
    auto line = solver::explain(cause, step_now(), recall_step(*o_.memory, o_.spec));
    if (line) progress_->note(*line);
  }

  void ran(std::vector<std::string> refs) {
    set_phase(phase::saving);
    store::cache_keys::batch batch;
    std::vector<vertex_result> values;
    auto now = unix_now_ns();
    for (std::size_t n = 0; n < refs.size(); ++n) {
      auto search = make_search(static_cast<int>(n));
      auto keys = search.matches();
      auto key = search.final_key();
      if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
        append_links(batch, search.links_to(key));
        // A key that cannot be reached again is not worth keeping.
        if (is_root() || !search.links_to(key).empty()) keys.push_back(key);
      }
      for (const auto& k : keys)
        if (!solver::is_random(k)) batch.results.push_back({k, {refs[n].empty() ? scratch_result : refs[n], now}});
      if (keys.empty()) keys.push_back(key);
      values.push_back({refs[n], std::move(keys)});
    }
    tell_holders(batch);
    std::optional<std::pair<std::string, std::string>> step;
    if (o_.memory && !is_root()) step = encode_step(o_.spec, step_now());
    jobs_.run<bool>(
        self_, *o_.io,
        [keys = o_.keys, memory = o_.memory, batch = std::move(batch), step = std::move(step)]() -> result<bool> {
          if (step) remember_step(*memory, *step);
          KILN_CHECK(keys->add(batch));
          return true;
        },
        [this, values = std::move(values)](result<bool> saved) mutable {
          if (!saved.ok()) spdlog::warn("cache keys of {} not saved: {}", o_.spec.name, saved.error().message);
          progress_->completed("", false);
          set_phase(phase::done);
          for (std::size_t n = 0; n < values.size(); ++n)
            if (auto& out = outputs_[static_cast<int>(n)]; !out.result) finish(static_cast<int>(n), std::move(values[n]));
          refuse_waiters(make_error(errc::invalid_argument, o_.spec.name + " has no such output"));
        });
  }

  /// Nodes that made the result remember it too.
  void tell_holders(const store::cache_keys::batch& batch) {
    if (std::none_of(batch.results.begin(), batch.results.end(), [](const auto& r) { return is_remote(r.result.id); }))
      return;
    cache_facts facts;
    for (const auto& l : batch.links)
      facts.links.push_back({{l.parent, l.link.input, l.link.output, l.link.digest, l.link.selector}, l.child});
    for (const auto& r : batch.results) facts.results.push_back({r.key, r.result.id, r.result.created_at_ns});
    self_->send(o_.worker, remember_atom::value, std::move(facts));
  }

  void save(store::cache_keys::batch batch, std::function<void()> then = [] {}) {
    // Links that are there already need no transaction.
    std::erase_if(batch.links, [&](const auto& entry) {
      auto children = o_.keys->children(entry.parent, entry.link);
      return std::find(children.begin(), children.end(), entry.child) != children.end();
    });
    if (batch.links.empty() && batch.results.empty()) return then();
    jobs_.run<bool>(
        self_, *o_.io, [store = o_.keys, batch = std::move(batch)]() -> result<bool> {
          KILN_CHECK(store->add(batch));
          return true;
        },
        [then = std::move(then)](result<bool>) { then(); });
  }

  // Failures.

  /// An input's failure is its own story; only a dead input needs words.
  error input_error(const caf::error& e) const {
    auto failure = from_caf(e);
    if (failure.code == errc::cancelled || solver::has_detail(failure, solver::vertex_detail_type)) return failure;
    return std::move(failure).with_context("an input of " + o_.spec.name + " failed");
  }

  error wrap(error e, int content_input = -1) {
    if (solver::has_detail(e, solver::vertex_detail_type)) return e;
    e.details.push_back(solver::vertex_detail(digest::trusted(o_.spec.op.vertex)));
    if (!solver::has_detail(e, solver::source_detail_type))
      e.details.insert(e.details.end(), o_.spec.locations.begin(), o_.spec.locations.end());
    e.details.push_back(solver::solve_detail(o_.spec.op.op, o_.spec.op.metadata, {}, {}, content_input));
    own_failure_ = true;
    return e;
  }

  void fail(error e, bool shown = false) {
    if (phase_ == phase::failed || phase_ == phase::done) return;
    // Before anybody hears of it, so that whoever followed may claim the work.
    if (claimed_) self_->send(o_.graph, leave_atom::value, handle_of<vertex_actor>(self_));
    set_phase(phase::failed);
    failure_ = std::move(e);
    if (own_failure_ || shown || progress_->is_open()) progress_->completed(failure_.message, false);
    refuse_waiters(failure_);
  }

  void refuse_waiters(const error& e) {
    for (auto& [index, out] : outputs_) {
      refuse_all(out.key_waiters, e);
      refuse_all(out.content_key_waiters, e);
      refuse_all(out.result_waiters, e);
    }
  }

  progress_actor progress_handle() const { return handle_of<progress_actor>(self_); }

  vertex_impl::pointer self_ = nullptr;
  vertex_options o_;
  job_runner jobs_;
  std::optional<vertex_progress> progress_;

  phase phase_ = phase::idle;
  fact maps_ = fact::unknown;
  int map_index_ = 0;
  solver::cache_map map_;
  std::string origin_, pin_;  // of a source, see key_reply
  std::vector<digest> further_roots_;
  std::vector<input_facts> inputs_;
  std::map<int, output_facts> outputs_;
  import_handles imports_;
  vertex_actor owner_;  // of equal work this one followed
  int remade_ = 0;
  bool claimed_ = false;  // work, now or before
  bool saw_evicted_ = false;
  bool own_failure_ = false;
  error failure_;
};

vertex_impl::behavior_type vertex(vertex_impl::stateful_pointer<vertex_state> self, vertex_options options) {
  return self->state.start(self, std::move(options));
}

}  // namespace

vertex_actor spawn_vertex(caf::local_actor* parent, vertex_options options) {
  return parent->spawn(vertex, std::move(options));
}

}  // namespace kiln::actors
