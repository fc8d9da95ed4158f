// What a vertex may be asked, its way through the phases, and its end.
#include "actors/solve/vertex.hpp"

#include <algorithm>

#include "actors/failure_stack.hpp"
#include "actors/solve/vertex_state.hpp"
#include "solver/error_details.hpp"
#include "solver/graph.hpp"

namespace kiln::actors {

vertex_state::vertex_state(vertex_impl::pointer self, vertex_options options)
    : self_(self), options_(std::move(options)), inputs_(options_.inputs.size()) {}

vertex_impl::behavior_type vertex_state::behavior() {
  progress_.emplace(options_.spec);
  ending_.watch(self_, "the actor of " + options_.spec.name);
  add_imports(options_.imports);
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
          progress_->adopt(std::move(status), owners_of_inputs());
        } else {
          progress_->forward(std::move(status));
        }
      },
      [this](job_done_atom, std::uint64_t job) { jobs_.finish(job); },
  };
}

// What is asked.

caf::result<key_set> vertex_state::ask_keys(int output, bool by_content) {
  auto& out = outputs_[output];
  if (phase_ == phase::failed) return failure_;
  if (out.result) return key_set{out.result->keys};
  if (phase_ == phase::done) return to_caf(no_such_output(output));
  // Whoever asks while it is being made need not wait for that: keys tell what is known.
  bool present = phase_ >= phase::collecting;
  if (present)
    if (const auto* search = search_of(output, out)) return key_set{matches_of(*search)};
  auto promise = self_->make_response_promise<key_set>();
  if (present) {
    out.present_key_waiters.push_back(promise);
    return promise;
  }
  (by_content ? out.content_key_waiters : out.key_waiters).push_back(promise);
  want(out, by_content ? demand::content_keys : demand::keys);
  return promise;
}

caf::result<vertex_result> vertex_state::ask_result(int output) {
  auto& out = outputs_[output];
  if (phase_ == phase::failed) return failure_;
  if (out.result) return *out.result;
  if (phase_ == phase::done) return to_caf(no_such_output(output));
  auto promise = self_->make_response_promise<vertex_result>();
  out.result_waiters.push_back(promise);
  want(out, demand::result);
  return promise;
}

error vertex_state::no_such_output(int output) const {
  return make_error(errc::invalid_argument, options_.spec.name + " has no output " + std::to_string(output));
}

void vertex_state::add_imports(const std::vector<std::string>& ids) {
  for (const auto& id : ids) {
    auto cache = options_.import_table ? options_.import_table->find(id) : nullptr;
    if (!cache || std::find(imports_.begin(), imports_.end(), cache) != imports_.end()) continue;
    imports_.push_back(std::move(cache));
    ++facts_;
    for (auto& [index, out] : outputs_) out.evicted = false;
  }
}

cache_steps vertex_state::steps() {
  cache_steps all;
  for (auto& [index, out] : outputs_) {
    if (!out.result && !out.search) continue;
    cache_step step;
    step.vertex = options_.spec.digest;
    step.index = index;
    step.inputs = options_.spec.inputs;
    step.original = options_.spec.op.vertex;
    if (options_.spec.op.op.has_source()) step.source = options_.spec.op.op.source();
    step.platform = options_.spec.op.platform;
    step.origin = origin_;
    step.pin = pin_;
    step.usage = usage_;
    if (options_.spec.op.proxy.on && options_.spec.op.op.has_exec()) {
      step.proxy_op = map_.op_digest.str();
      step.proxied = proxied_;
    }
    step.keys = out.result ? out.result->keys : matches_of(*out.search);
    if (out.result) step.ref = out.result->ref;
    if (options_.spec.op.metadata.has_export_cache())
      step.export_cache = options_.spec.op.metadata.export_cache().value() ? 1 : 0;
    all.steps.push_back(std::move(step));
  }
  return all;
}

void vertex_state::want(output_facts& out, demand d) {
  out.wanted = std::max(out.wanted, d);
  advance();
}

// The state machine.

void vertex_state::advance() {
  if (phase_ == phase::done || phase_ == phase::failed) return;
  if (maps_ == fact::unknown) return ask_cache_map(0);
  if (maps_ != fact::known) return;
  for (auto& [index, out] : outputs_) {
    if (out.wanted != demand::none && !out.result) probe(index, out);
    if (phase_ == phase::failed) return;
  }
}

void vertex_state::go_on() {
  if (phase_ == phase::collecting) return collect();
  advance();
}

void vertex_state::probe(int index, output_facts& out) {
  if (phase_ > phase::probing) {
    if (phase_ == phase::collecting && out.wanted == demand::result) collect();
    // A running or saving vertex answers everyone when it is done; keys are not known before.
    if (phase_ >= phase::claiming) return;
    if (out.wanted == demand::result) return;
  }
  if (phase_ == phase::keying) phase_.move_to(phase::probing);

  bool all_keys = true;
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    if (inputs_[i].definition_keys == fact::unknown) ask_input_keys(i, false);
    all_keys &= inputs_[i].definition_keys == fact::known;
  }
  if (!all_keys) return;

  auto* search = search_of(index, out);
  if (!search) return;
  auto matches = matches_of(*search);
  bool results = !matches.empty() && out.has_results;
  if (!results && ask_peers(index, out, *search)) return;
  if (is_root() && map_.more && !ignores_cache() && !results) return ask_cache_map(++map_index_);
  give_keys(out.key_waiters, matches);
  if (!matches.empty()) {
    give_keys(out.content_key_waiters, matches);
    if (!ignores_cache() && !out.evicted) {
      if (out.wanted == demand::result) return load(index, out, std::move(matches));
      if (!is_root() && results) progress_->cached();
      return;
    }
  } else if (out.wanted >= demand::content_keys && !ignores_cache()) {
    if (!probed_by_content(*search)) return;
  }
  if (out.wanted < demand::content_keys) return;
  give_keys(out.content_key_waiters, matches);
  if (out.wanted == demand::result) {
    phase_.move_to(phase::collecting);
    collect();
  }
}

bool vertex_state::probed_by_content(solver::key_search& search) {
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

void vertex_state::collect() {
  bool ready = true;
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    need_result(i);
    ready &= inputs_[i].result == fact::known;
  }
  auto by_content = [this](std::size_t i) { return map_.dependencies[i].content_based; };
  bool any_by_content = false;
  for (std::size_t i = 0; i < inputs_.size(); ++i) any_by_content |= by_content(i);
  if (any_by_content) {
    bool hit = false, looking = false;
    for (auto& [index, out] : outputs_) {
      if (!out.search) continue;
      const auto* search = search_of(index, out);
      looking |= !search;
      hit |= search && !search->matches().empty();
    }
    if (!hit && looking) return;
    for (std::size_t i = 0; i < inputs_.size() && !hit; ++i) {
      if (!by_content(i)) continue;
      need_content(i);
      ready &= inputs_[i].content == fact::known;
    }
  }
  if (!ready) return;
  if (!ignores_cache() && !is_root()) {
    for (auto& [index, out] : outputs_) {
      if (out.wanted != demand::result || out.result || out.evicted) continue;
      const auto* search = search_of(index, out);
      if (!search) return;
      auto matches = search->matches();
      if (!matches.empty()) return load(index, out, std::move(matches));
      if (ask_peers(index, out, *search)) return;
    }
  }
  claim();
}

void vertex_state::finish(int index, vertex_result value) {
  auto& out = outputs_[index];
  value.owners = owners_of(value.ref);
  out.result = std::move(value);
  give_keys(out.key_waiters, out.result->keys);
  give_keys(out.content_key_waiters, out.result->keys);
  give_keys(out.present_key_waiters, out.result->keys);
  for (auto& p : std::exchange(out.result_waiters, {})) p.deliver(*out.result);
}

result_owners vertex_state::owners_of_inputs() const {
  result_owners out;
  for (const auto& input : inputs_) out.insert(input.value.owners.begin(), input.value.owners.end());
  return out;
}

result_owners vertex_state::owners_of(const std::string& ref) const {
  // What a step wrote is on disk, and all that it stands on.
  const auto& op = options_.spec.op.op;
  if (ref.empty() || (has_run_ && (op.has_exec() || op.has_file()))) return {};
  auto out = owners_of_inputs();
  out.try_emplace(ref, options_.spec.op.vertex);
  return out;
}

void vertex_state::give_keys(std::vector<caf::typed_response_promise<key_set>>& waiters,
                             const std::vector<std::string>& keys) {
  for (auto& p : std::exchange(waiters, {})) p.deliver(key_set{keys});
}

// Failures.

void vertex_state::input_failed(const caf::error& e) {
  const auto* own = wrapped_error(e);
  if (own && (own->code == errc::cancelled || solver::has_detail(*own, solver::vertex_detail_type)))
    return fail_as(e, own->message, false);
  auto failure = from_caf(e);
  if (failure.code == errc::cancelled) return fail(std::move(failure));
  fail(std::move(failure).with_context("an input of " + options_.spec.name + " failed"));
}

error vertex_state::wrap(error e, int content_input, source_location where) {
  if (solver::has_detail(e, solver::vertex_detail_type)) return e;
  e.details.push_back(solver::vertex_detail(digest::trusted(options_.spec.op.vertex)));
  if (!solver::has_detail(e, solver::source_detail_type) && options_.sources)
    for (auto& place : solver::source_details(options_.spec.locations, *options_.sources))
      e.details.push_back(std::move(place));
  if (!solver::has_detail(e, solver::solve_detail_type)) {
    std::vector<std::string> refs;
    if (content_input >= 0) refs.push_back(inputs_[static_cast<std::size_t>(content_input)].value.ref);
    e.details.push_back(solver::solve_detail(options_.spec.op.op, options_.spec.op.metadata, refs, {},
                                             {.content_input = content_input}));
  }
  add_stack(e, where);
  own_failure_ = true;
  return e;
}

void vertex_state::fail(error e, bool shown) {
  auto text = e.message;
  fail_as(to_caf(std::move(e)), text, shown);
}

void vertex_state::fail_while(std::string_view what, error e) {
  if (e.code == errc::cancelled) return fail(std::move(e));
  auto text = e.message;
  fail_as(to_caf(std::move(e).with_context(what)), text, false);
}

void vertex_state::fail_as(caf::error e, const std::string& text, bool shown) {
  if (phase_ >= phase::saving) return;  // who has results gives them
  // Before anybody hears of it, so that whoever followed may claim the work.
  if (claimed_) self_->send(options_.graph, leave_atom::value, handle_of<vertex_actor>(self_));
  phase_.move_to(phase::failed);
  failure_ = std::move(e);
  if (own_failure_ || shown || progress_->is_open()) progress_->completed(text, false);
  refuse_waiters(failure_);
}

void vertex_state::refuse_waiters(const caf::error& e) {
  auto refuse = [&](auto& waiters) {
    for (auto& p : std::exchange(waiters, {})) p.deliver(e);
  };
  for (auto& [index, out] : outputs_) {
    refuse(out.key_waiters);
    refuse(out.content_key_waiters);
    refuse(out.present_key_waiters);
    refuse(out.result_waiters);
  }
}

namespace {

vertex_impl::behavior_type vertex(vertex_impl::stateful_pointer<actor_state> self, vertex_options options) {
  return self->state.hold<vertex_state>("vertex", self, std::move(options)).behavior();
}

}  // namespace

vertex_actor spawn_vertex(caf::local_actor* parent, vertex_options options) {
  return parent->spawn(vertex, std::move(options));
}

}  // namespace kiln::actors
