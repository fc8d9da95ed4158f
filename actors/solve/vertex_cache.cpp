// What is known of a vertex in caches: its keys, here and on other nodes and in imports; loading what they
// lead to, forgetting what is gone, keeping what was learnt.
#include <algorithm>

#include <spdlog/spdlog.h>

#include "actors/solve/vertex_state.hpp"

namespace kiln::actors {

// Keys.

key_facts vertex_state::facts_now() const {
  key_facts out{map_, further_roots_, {}};
  for (const auto& input : inputs_) {
    auto& known = out.inputs.emplace_back(key_facts::input{input.keys, std::nullopt});
    if (input.content == fact::known) known.content = input.content_digest;
  }
  return out;
}

solver::key_search* vertex_state::search_of(int index, output_facts& out) {
  if (out.search && out.searched == facts_) return &*out.search;
  if (std::exchange(out.searching, true)) return nullptr;
  jobs_.run<found_keys>(
      self_, *options_.io,
      [keys = options_.keys, imports = imports_, facts = facts_now(), index]() -> result<found_keys> {
        return find_keys(facts, index, *keys, imports);
      },
      [this, index, facts = facts_](result<found_keys> found) { searched(index, facts, std::move(found)); });
  return nullptr;
}

void vertex_state::searched(int index, std::uint64_t facts, result<found_keys> found) {
  auto& out = outputs_[index];
  out.searching = false;
  // Without the database there are no matches, and what is asked for is made.
  if (!found.ok()) {
    spdlog::warn("keys of {} not looked up: {}", options_.spec.name, found.error().message);
    found = found_keys{links_now(index)};
  }
  out.search = std::move(found->search);
  out.has_results = found->results;
  out.searched = facts;
  if (!out.present_key_waiters.empty())
    if (const auto* search = search_of(index, out)) give_keys(out.present_key_waiters, matches_of(*search));
  go_on();
}

std::vector<std::string> vertex_state::matches_of(const solver::key_search& search) const {
  if (ignores_cache() && !is_root()) return {};
  return search.matches();
}

bool vertex_state::ask_peers(int index, output_facts& out, const solver::key_search& search) {
  if (out.asking_peers) return true;
  auto cluster = options_.peers.cluster();
  if (!cluster || ignores_cache()) return false;
  cache_query question;
  for (const auto& root : search.roots())
    if (!solver::is_random(root)) question.roots.push_back(root);
  question.links = search.lookups();
  auto lookups = question.roots.size() + question.links.size();
  if (lookups <= out.asked_peers) return false;
  out.asked_peers = lookups;
  out.asking_peers = true;
  auto told = [this, index] {
    outputs_[index].asking_peers = false;
    go_on();
  };
  self_->request(cluster, caf::infinite, ask_peers_atom::value, std::move(question))
      .then(
          [this, index, told](cache_records& facts) {
            if (facts.links.empty() && facts.results.empty()) return told();
            save(std::move(facts), [this, index, told] {
              ++facts_;
              outputs_[index].evicted = false;
              told();
            });
          },
          [told](caf::error&) { told(); });
  return true;
}

// Hits.

void vertex_state::load(int index, output_facts& out, std::vector<std::string> matches) {
  if (std::exchange(out.loading, true)) return;
  jobs_.run<std::vector<known_result>>(
      self_, *options_.io,
      [keys = options_.keys, imports = imports_, matches]() -> result<std::vector<known_result>> {
        return candidates_of(matches, *keys, imports);
      },
      [this, index, matches](result<std::vector<known_result>> found) {
        load_next(index, found.ok() ? *std::move(found) : std::vector<known_result>{}, matches);
      });
}

void vertex_state::load_next(int index, std::vector<known_result> candidates,
                             std::vector<std::string> matches) {
  auto& out = outputs_[index];
  if (candidates.empty()) {
    out.loading = false;
    out.evicted = true;
    if (!is_root()) saw_evicted_ = true;
    return go_on();
  }
  auto next = std::move(candidates.back());
  candidates.pop_back();
  if (next.import) return load_imported(index, std::move(next), std::move(candidates), std::move(matches));
  auto id = next.result.id;
  if (id == scratch_result) return loaded(index, "", std::move(matches));
  self_->request(worker(), caf::infinite, pin_atom::value, id)
      .then([this, index, id, matches](bool) mutable { loaded(index, id, std::move(matches)); },
            [this, index, id, candidates, matches](caf::error& e) mutable {
              // Gone or unreadable: forget it and look further; the worst case is a rebuild.
              if (from_caf(e).code == errc::not_found) forget(id);
              load_next(index, std::move(candidates), std::move(matches));
            });
}

void vertex_state::load_imported(int index, known_result next, std::vector<known_result> others,
                                 std::vector<std::string> matches) {
  import_load request{next.import->table_id(), next.result.id, options_.spec.op.vertex,
                      progress_->sessions()};
  self_->request(worker(), caf::infinite, std::move(request), progress_handle())
      .then(
          [this, index, created = next.result.created_at_ns, matches](run_reply& reply) mutable {
            auto ref = reply.outputs.empty() ? std::string() : reply.outputs.front();
            keep_imported(index, ref, created, matches,
                          [this, index, ref, matches] { loaded(index, ref, matches); });
          },
          [this, index, others, matches](caf::error& e) mutable {
            spdlog::warn("imported cache of {} not usable: {}", options_.spec.name, from_caf(e).message);
            load_next(index, std::move(others), std::move(matches));
          });
}

void vertex_state::keep_imported(int index, const std::string& ref, std::int64_t created,
                                 const std::vector<std::string>& keys, std::function<void()> then) {
  auto search = links_now(index);
  cache_records batch;
  for (const auto& key : keys) {
    if (solver::is_random(key)) continue;
    if (!is_root()) append_links(batch, search.links_to(key));
    batch.results.push_back({key, {ref.empty() ? scratch_result : ref, created}});
  }
  save(std::move(batch), std::move(then));
}

void vertex_state::loaded(int index, const std::string& ref, std::vector<std::string> matches) {
  auto& out = outputs_[index];
  out.loading = false;
  progress_->cached();
  // Keys this result was not yet reached by lead to it from now on.
  if (!is_root()) {
    cache_records batch;
    batch.links = links_now(index).links_to(matches.front());
    save(std::move(batch));
  }
  finish(index, {ref, std::move(matches)});
  bool open = std::any_of(outputs_.begin(), outputs_.end(), [](const auto& entry) {
    return !entry.second.result && entry.second.wanted == demand::result;
  });
  if (phase_ == phase::collecting && open) return collect();
  if (phase_ <= phase::collecting) {
    phase_.move_to(phase::probing);
    advance();
  }
}

void vertex_state::lose(int index, const std::string& ref) {
  auto found = outputs_.find(index);
  if (found == outputs_.end() || !found->second.result || found->second.result->ref != ref) return;
  auto& out = found->second;
  out.result.reset();
  out.search.reset();
  ++facts_;
  out.wanted = demand::none;
  out.evicted = false;
  out.asked_peers = 0;
  if (owner_) self_->send(owner_, lost_atom::value, index, ref);
  if (phase_ == phase::done) phase_.move_to(phase::probing);
  // Who asks before the database has forgotten it tries it once more, in vain.
  forget(ref);
}

void vertex_state::forget(const std::string& id, std::function<void()> then) {
  jobs_.run<bool>(
      self_, *options_.io,
      [keys = options_.keys, id]() -> result<bool> {
        KILN_CHECK(keys->release(id));
        return true;
      },
      [then = std::move(then)](result<bool>) { then(); });
}

void vertex_state::save(cache_records batch, std::function<void()> then) {
  if (batch.links.empty() && batch.results.empty()) return then();
  jobs_.run<bool>(
      self_, *options_.io,
      [keys = options_.keys, batch = std::move(batch)]() mutable -> result<bool> {
        drop_known_links(batch, *keys);
        if (batch.links.empty() && batch.results.empty()) return false;
        KILN_CHECK(keys->add(batch));
        return true;
      },
      [then = std::move(then)](result<bool>) { then(); });
}

}  // namespace kiln::actors
