// What is known of a vertex in caches: its keys, here and on other nodes and in imports; loading what they
// lead to, forgetting what is gone, keeping what was learnt.
#include <algorithm>

#include <spdlog/spdlog.h>

#include "actors/solve/vertex_state.hpp"

namespace kiln::actors {

// Keys.

solver::key_search& vertex_state::search_of(int index, output_facts& out) {
  if (!out.search) out.search = make_search(index);
  return *out.search;
}

solver::key_search vertex_state::make_search(int index) {
  solver::key_search search(map_, index);
  for (const auto& root : further_roots_) search.add_root(root);
  key_reader db(*options_.keys, imports_);
  for (std::size_t i = 0; i < inputs_.size(); ++i) {
    search.add_input_keys(static_cast<int>(i), inputs_[i].keys, db);
    if (inputs_[i].content == fact::known)
      search.set_content(static_cast<int>(i), inputs_[i].content_digest, db);
  }
  return search;
}

std::vector<std::string> vertex_state::present_keys(int index, output_facts& out) {
  if (ignores_cache() && !is_root()) return {};
  return search_of(index, out).matches();
}

bool vertex_state::ask_peers(int index, output_facts& out) {
  if (out.asking_peers) return true;
  auto cluster = options_.peers.cluster();
  if (!cluster || ignores_cache()) return false;
  auto& search = search_of(index, out);
  cache_query question;
  for (const auto& root : search.roots())
    if (!solver::is_random(root)) question.roots.push_back(root);
  question.links = search.lookups();
  auto lookups = question.roots.size() + question.links.size();
  if (lookups <= out.asked_peers) return false;
  out.asked_peers = lookups;
  out.asking_peers = true;
  auto go_on = [this, index] {
    outputs_[index].asking_peers = false;
    if (phase_ == phase::collecting) return collect();
    advance();
  };
  self_->request(cluster, caf::infinite, ask_peers_atom::value, std::move(question))
      .then(
          [this, index, go_on](cache_records& facts) {
            if (facts.links.empty() && facts.results.empty()) return go_on();
            save(std::move(facts), [this, index, go_on] {
              outputs_[index].search.reset();
              outputs_[index].evicted = false;
              go_on();
            });
          },
          [go_on](caf::error&) { go_on(); });
  return true;
}

// Hits.

std::vector<vertex_state::candidate> vertex_state::results_of(const std::string& key) const {
  std::vector<candidate> out;
  if (solver::is_random(key)) return out;
  for (auto& r : options_.keys->results(key)) out.push_back({std::move(r), nullptr});
  for (const auto& import : imports_)
    for (auto& r : import->results(key)) out.push_back({{std::move(r.id), r.created_at_ns}, import});
  return out;
}

bool vertex_state::has_results(const std::vector<std::string>& keys) const {
  return std::any_of(keys.begin(), keys.end(), [&](const auto& key) { return !results_of(key).empty(); });
}

void vertex_state::load(int index, output_facts& out, std::vector<std::string> matches) {
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

void vertex_state::load_next(int index, std::vector<candidate> candidates, std::vector<std::string> matches) {
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
  self_->request(worker(), caf::infinite, pin_atom::value, id)
      .then([this, index, id, matches](bool) mutable { loaded(index, id, std::move(matches)); },
            [this, index, id, candidates, matches](caf::error& e) mutable {
              // Gone or unreadable: forget it and look further; the worst case is a rebuild.
              if (from_caf(e).code == errc::not_found) forget(id);
              load_next(index, std::move(candidates), std::move(matches));
            });
}

void vertex_state::load_imported(int index, candidate next, std::vector<candidate> others,
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
  auto& search = search_of(index, outputs_[index]);
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
    batch.links = search_of(index, out).links_to(matches.front());
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
  // Links that are there already need no transaction.
  std::erase_if(batch.links, [&](const auto& entry) {
    auto children = options_.keys->children(entry.parent, entry.link);
    return std::find(children.begin(), children.end(), entry.child) != children.end();
  });
  if (batch.links.empty() && batch.results.empty()) return then();
  jobs_.run<bool>(
      self_, *options_.io,
      [store = options_.keys, batch = std::move(batch)]() -> result<bool> {
        KILN_CHECK(store->add(batch));
        return true;
      },
      [then = std::move(then)](result<bool>) { then(); });
}

}  // namespace kiln::actors
