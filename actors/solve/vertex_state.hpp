// The state of a vertex (vertex.hpp), shared by the files that make it up: vertex.cpp (what it may be asked,
// its way through the phases, its end), vertex_inputs.cpp (what it asks of its inputs), vertex_cache.cpp
// (what is known of its keys and results), vertex_claim.cpp (equal work is done once), vertex_run.cpp (the
// work itself). Included by these only. Everything runs on the vertex's actor.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "actors/ending.hpp"
#include "actors/handles.hpp"
#include "actors/solve/key_search_job.hpp"
#include "actors/solve/key_store.hpp"
#include "actors/solve/vertex.hpp"
#include "actors/solve/vertex_phase.hpp"
#include "actors/solve/vertex_progress.hpp"
#include "base/source_location.hpp"
#include "solver/cache_key.hpp"
#include "solver/devices.hpp"
#include "solver/reason.hpp"

namespace kiln::actors {

using vertex_impl = vertex_actor::extend<caf::reacts_to<job_done_atom, std::uint64_t>>;

class vertex_state {
 public:
  vertex_state(vertex_impl::pointer self, vertex_options options);
  ~vertex_state() {
    stop_.request_stop();
    auto gone = ending_.for_waiters();
    if (!ending_.asked() && progress_ && progress_->is_open()) progress_->completed(gone.message, false);
    refuse_waiters(to_caf(std::move(gone)));
  }

  vertex_impl::behavior_type behavior();

 private:
  using phase = vertex_phase;

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
    std::optional<solver::key_search> search;  // the last one; of now when `searched` is `facts_`
    std::uint64_t searched = 0;
    bool searching = false;
    bool has_results = false;  // of the keys that matched
    demand wanted = demand::none;
    bool loading = false;
    bool evicted = false;         // keys match but nothing could be loaded
    std::size_t asked_peers = 0;  // how many lookups they were asked
    bool asking_peers = false;
    std::optional<vertex_result> result;
    std::vector<caf::typed_response_promise<key_set>> key_waiters;
    std::vector<caf::typed_response_promise<key_set>> content_key_waiters;
    std::vector<caf::typed_response_promise<key_set>>
        present_key_waiters;  // for what is known, whatever it is
    std::vector<caf::typed_response_promise<vertex_result>> result_waiters;
  };

  // What is asked.
  caf::result<key_set> ask_keys(int output, bool by_content);
  caf::result<vertex_result> ask_result(int output);
  error no_such_output(int output) const;
  /// Lookups from now on go to these caches too.
  void add_imports(const std::vector<std::string>& ids);
  cache_steps steps();
  void want(output_facts& out, demand d);

  // The state machine.
  bool ignores_cache() const { return options_.spec.op.metadata.ignore_cache(); }
  bool is_root() const { return inputs_.empty(); }
  /// Does whatever the facts and the demand call for next; called when either changed.
  void advance();
  /// As advance(), wherever it is.
  void go_on();
  void probe(int index, output_facts& out);
  /// Looks inputs up by content where their keys lead nowhere. True once that is decided.
  bool probed_by_content(solver::key_search& search);
  /// A miss: gathers what running needs, looks up once more, then claims the work.
  void collect();
  void finish(int index, vertex_result value);
  /// Whose layers may have to be brought to the disk yet: see vertex_result.
  result_owners owners_of_inputs() const;
  result_owners owners_of(const std::string& ref) const;
  static void give_keys(std::vector<caf::typed_response_promise<key_set>>& waiters,
                        const std::vector<std::string>& keys);

  // The cache map and the inputs: questions, and what their answers change.
  void ask_cache_map(int index);
  void take_cache_map(int index, key_reply& reply);
  void ask_input_keys(std::size_t i, bool by_content);
  void take_input_keys(std::size_t i, const std::vector<std::string>& keys);
  void need_result(std::size_t i);
  void need_content(std::size_t i);
  void ask_content(std::size_t i);
  /// An input is gone with its node: has it made again and goes on from there. False when that is not what
  /// the error says.
  bool remake_input(const error& e);

  // The cache: keys, and hits. What asks the database is a job.
  key_facts facts_now() const;
  /// What needs no database of a search: see no_links.
  solver::key_search links_now(int index) const { return facts_now().search(index, no_links()); }
  /// The search with all that is known now; null while it is made, then go_on() is called.
  solver::key_search* search_of(int index, output_facts& out);
  void searched(int index, std::uint64_t facts, result<found_keys> found);
  /// Keys that lead to this output, of a search.
  std::vector<std::string> matches_of(const solver::key_search& search) const;
  /// Asks the other nodes what this one does not know, once for everything that is looked up. True while
  /// their answer is awaited; what they know is then in the database, as if it had always been.
  bool ask_peers(int index, output_facts& out, const solver::key_search& search);
  void load(int index, output_facts& out, std::vector<std::string> matches);
  /// Tries the newest (last) candidate first, what is here before what is imported.
  void load_next(int index, std::vector<known_result> candidates, std::vector<std::string> matches);
  void load_imported(int index, known_result next, std::vector<known_result> others,
                     std::vector<std::string> matches);
  /// What an import gave is known here from now on; `then` runs once it is, for exports of the cache look
  /// there.
  void keep_imported(int index, const std::string& ref, std::int64_t created,
                     const std::vector<std::string>& keys, std::function<void()> then);
  void loaded(int index, const std::string& ref, std::vector<std::string> matches);
  /// Whoever uses this output could not get it: it is not to be had any more.
  void lose(int index, const std::string& ref);
  void forget(
      const std::string& id, std::function<void()> then = [] {});
  void save(
      cache_records batch, std::function<void()> then = [] {});

  // Equal work.
  void claim();
  /// Another vertex does the same work: its results are ours.
  void follow(const vertex_actor& owner);
  void follow_output(const vertex_actor& owner, int index);
  void claim_again(const vertex_actor& owner);
  void followed(const vertex_actor& owner, int index, const vertex_result& reply);

  // Misses.
  void run();
  void execute();
  void run_failed(error e);
  /// The op is LLB in a file of its input: solves that, on behalf of everyone who holds this vertex.
  void run_build();
  void solve_nested(std::string bytes);
  void load_nested(std::string bytes, std::vector<solver::device> devices);
  void place_nested(graph_spec spec);
  solver::step_record step_now();
  /// Tells why this runs, then runs `then`.
  void explain(std::function<void()> then);
  struct outcome {
    cache_records batch;
    std::vector<vertex_result> values;
  };
  /// Under which keys results are kept. Blocking; for a job.
  static outcome keep_under(const key_facts& facts, const std::vector<std::string>& refs,
                            const solver::key_lookup& db);
  void ran(std::vector<std::string> refs, std::string usage = {});
  /// Nodes that made the result remember it too.
  void tell_holders(const cache_records& batch);

  // Failures. One error may end very many vertices, so it is handed on as it is and never copied.
  /// An input's failure is its own story; only a dead input needs words.
  void input_failed(const caf::error& e);
  error wrap(error e, int content_input = -1, source_location where = source_location::current());
  void fail(error e, bool shown = false);
  /// Fails while `what` was being done, which the vertex itself need not be told: only whoever asked.
  void fail_while(std::string_view what, error e);
  void fail_as(caf::error e, const std::string& text, bool shown);
  void refuse_waiters(const caf::error& e);
  progress_actor progress_handle() const { return handle_of<progress_actor>(self_); }
  worker_actor worker() const { return options_.peers.worker(); }

  vertex_impl::pointer self_;
  vertex_options options_;
  ending ending_;
  job_runner jobs_;
  std::stop_source stop_;  // of jobs that nobody waits for once this is gone
  std::optional<vertex_progress> progress_;

  vertex_progression phase_;
  fact maps_ = fact::unknown;
  int map_index_ = 0;
  solver::cache_map map_;
  std::string origin_, pin_;  // of a source, see key_reply
  std::string usage_;         // see run_reply
  bool has_run_ = false;      // its results were made, here or by who was followed, not found
  std::string proxied_;       // what its run fetched, see run_reply
  std::vector<digest> further_roots_;
  std::vector<input_facts> inputs_;
  std::map<int, output_facts> outputs_;
  std::uint64_t facts_ = 1;  // counts changes of what searches are made from, and of what they could find
  import_handles imports_;
  vertex_actor owner_;  // of equal work this one followed
  int remade_ = 0;
  bool claimed_ = false;  // work, now or before
  bool saw_evicted_ = false;
  bool own_failure_ = false;
  caf::error failure_;
};

}  // namespace kiln::actors
