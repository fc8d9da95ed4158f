// A miss: the work itself, why it is done, and what is kept of its results.
#include <algorithm>

#include <spdlog/spdlog.h>

#include "actors/solve/graph_spec.hpp"
#include "actors/solve/step_history.hpp"
#include "actors/solve/vertex_state.hpp"
#include "actors/worker/worker_devices.hpp"
#include "messages/located_id.hpp"
#include "solver/graph.hpp"

namespace kiln::actors {

void vertex_state::run() {
  phase_.move_to(phase::running);
  // The worker says when a step begins that first needs its inputs on disk.
  const auto& op = options_.spec.op.op;
  if (!op.has_exec() && !op.has_file()) progress_->started();
  explain([this] {
    if (phase_ == phase::running) execute();
  });
}

void vertex_state::execute() {
  if (options_.spec.op.op.has_build()) return run_build();
  run_request request{options_.spec.op, {}, progress_->sessions(), owners_of_inputs()};
  for (const auto& input : inputs_) request.inputs.push_back(input.value.ref);
  if (auto limits = options_.limits ? options_.limits->laxest() : std::nullopt)
    *request.op.metadata.mutable_linux_resources() = *std::move(limits);
  self_->request(worker(), caf::infinite, std::move(request), progress_handle())
      .then(
          [this](run_reply& reply) {
            proxied_ = std::move(reply.proxied);
            ran(std::move(reply.outputs), std::move(reply.usage));
          },
          [this](caf::error& e) { run_failed(from_caf(e)); });
}

void vertex_state::run_failed(error e) {
  if (phase_ != phase::running) return;
  if (remake_input(e)) return;
  fail(wrap(std::move(e)));
}

void vertex_state::run_build() {
  const auto& build = options_.spec.op.op.build();
  auto input = build.inputs().find("buildkit.llb.definition");
  if (build.builder() != -1 || input == build.inputs().end() || input->second.input() < 0 ||
      static_cast<std::size_t>(input->second.input()) >= inputs_.size())
    return fail(wrap(make_error(errc::invalid_argument, "invalid build op: no LLB definition input")));
  auto file = build.attrs().find("llbbuild.filename");
  gw::ReadFileRequest read;
  read.set_filepath(file == build.attrs().end() ? "buildkit.llb.definition" : file->second);
  ref_scope scope{inputs_[static_cast<std::size_t>(input->second.input())].value.ref, progress_->sessions()};
  self_->request(worker(), caf::infinite, scope, read)
      .then([this](gw::ReadFileResponse& reply) { solve_nested(std::move(*reply.mutable_data())); },
            [this](caf::error& e) { run_failed(from_caf(e)); });
}

void vertex_state::solve_nested(std::string bytes) {
  // Devices that every build may have need no entitlement.
  self_->request(worker(), caf::infinite, describe_atom::value)
      .then(
          [this, bytes = std::move(bytes)](const types::WorkerRecord& record) mutable {
            load_nested(std::move(bytes), devices_of(record));
          },
          [this](caf::error& e) { fail(wrap(from_caf(e))); });
}

void vertex_state::load_nested(std::string bytes, std::vector<solver::device> devices) {
  jobs_.run<graph_spec>(
      self_, *options_.io,
      [bytes = std::move(bytes), devices = std::move(devices), platform = options_.spec.op.platform,
       cache_mounts = options_.spec.op.cache_mount_namespace, stop = stop_.get_token(),
       build = build_of(options_.spec.op), proxy = options_.spec.op.proxy]() -> result<graph_spec> {
        pb::Definition definition;
        if (!definition.ParseFromString(bytes))
          return make_error(errc::invalid_argument, "failed to parse the LLB definition of a build op");
        auto none = solver::entitlements::grant({}, {});
        solver::load_options options;
        options.default_platform = platform;
        options.granted = &*none;
        options.devices = devices;
        options.proxy_rules = text_of(proxy);
        options.stop = stop;
        auto g = solver::load(definition, options);
        if (!g.ok()) return std::move(g).error().with_context("failed to load LLB");
        auto spec = to_spec(*std::move(g), cache_mounts, proxy);
        keep_to_build(spec, build);
        return spec;
      },
      [this](result<graph_spec> spec) {
        if (!spec.ok()) return fail(wrap(std::move(spec).error()));
        place_nested(*std::move(spec));
      });
}

void vertex_state::place_nested(graph_spec spec) {
  auto group = progress_->sessions();
  auto index = spec.root.index;
  self_
      ->request(options_.graph, caf::infinite, load_atom::value, std::move(spec), progress_handle(),
                group.ids.empty() ? std::string() : group.ids.front())
      .then(
          [this, index](const vertex_actor& root) {
            self_->request(root, caf::infinite, result_atom::value, static_cast<std::int32_t>(index))
                .then(
                    [this](vertex_result& reply) {
                      if (reply.ref.empty()) return ran({""});
                      self_->request(worker(), caf::infinite, pin_atom::value, reply.ref)
                          .then([this, ref = reply.ref](bool) { ran({ref}); },
                                [this](caf::error& e) { fail(wrap(from_caf(e))); });
                    },
                    [this](caf::error& e) { input_failed(e); });
          },
          [this](caf::error& e) { fail(wrap(from_caf(e))); });
}

solver::step_record vertex_state::step_now() {
  auto search = links_now(0);
  solver::step_record now;
  now.op_digest = map_.op_digest.str();
  for (int i = 0; i < search.inputs(); ++i)
    now.inputs.push_back(
        {options_.spec.input_names[static_cast<std::size_t>(i)], search.primary(i), search.has_content(i)});
  return now;
}

void vertex_state::explain(std::function<void()> then) {
  if (!options_.step_history || is_root()) return then();
  auto cause = ignores_cache() ? solver::miss_cause::ignored
               : saw_evicted_  ? solver::miss_cause::evicted
                               : solver::miss_cause::no_match;
  using past = std::optional<solver::step_record>;
  jobs_.run<past>(
      self_, *options_.io,
      [step_history = options_.step_history, identity = step_identity(options_.spec)]() -> result<past> {
        return recall_step(*step_history, identity);
      },
      [this, cause, then = std::move(then)](result<past> before) {
        if (before.ok())
          if (auto line = solver::explain(cause, step_now(), *before)) progress_->note(*line);
        then();
      });
}

vertex_state::outcome vertex_state::keep_under(const key_facts& facts, const std::vector<std::string>& refs,
                                               const solver::key_lookup& db) {
  outcome out;
  auto now = unix_now_ns();
  bool is_root = facts.inputs.empty();
  for (std::size_t n = 0; n < refs.size(); ++n) {
    auto search = facts.search(static_cast<int>(n), db);
    auto keys = search.matches();
    auto key = search.final_key();
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
      append_links(out.batch, search.links_to(key));
      // A key that cannot be reached again is not worth keeping.
      if (is_root || !search.links_to(key).empty()) keys.push_back(key);
    }
    for (const auto& k : keys)
      if (!solver::is_random(k))
        out.batch.results.push_back({k, {refs[n].empty() ? scratch_result : refs[n], now}});
    if (keys.empty()) keys.push_back(key);
    out.values.push_back({refs[n], std::move(keys)});
  }
  return out;
}

void vertex_state::ran(std::vector<std::string> refs, std::string usage) {
  if (phase_ != phase::running) return;
  phase_.move_to(phase::saving);
  usage_ = std::move(usage);
  has_run_ = true;
  std::optional<std::pair<std::string, std::string>> step;
  if (options_.step_history && !is_root()) step = encode_step(options_.spec, step_now());
  jobs_.run<outcome>(
      self_, *options_.io,
      [keys = options_.keys, imports = imports_, step_history = options_.step_history, facts = facts_now(),
       refs, name = options_.spec.name, step = std::move(step)]() -> result<outcome> {
        auto out = keep_under(facts, refs, key_reader(*keys, imports));
        if (step) remember_step(*step_history, *step);
        if (auto s = keys->add(out.batch); !s.ok())
          spdlog::warn("cache keys of {} not saved: {}", name, s.error().message);
        return out;
      },
      [this, refs](result<outcome> kept) {
        auto values = kept.ok() ? std::move(kept->values) : keep_under(facts_now(), refs, no_links()).values;
        if (kept.ok()) tell_holders(kept->batch);
        progress_->completed("", false);
        phase_.move_to(phase::done);
        for (std::size_t n = 0; n < values.size(); ++n)
          if (auto& out = outputs_[static_cast<int>(n)]; !out.result)
            finish(static_cast<int>(n), std::move(values[n]));
        refuse_waiters(
            to_caf(make_error(errc::invalid_argument, options_.spec.name + " has no such output")));
      });
}

void vertex_state::tell_holders(const cache_records& batch) {
  if (std::none_of(batch.results.begin(), batch.results.end(),
                   [](const auto& r) { return is_remote(r.result.id); }))
    return;
  self_->send(worker(), remember_atom::value, batch);
}

}  // namespace kiln::actors
