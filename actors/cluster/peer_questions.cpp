#include "actors/cluster/peer_questions.hpp"

#include "actors/cluster/ask_peers.hpp"

#include <spdlog/spdlog.h>

#include "messages/cluster_text.hpp"
#include "messages/located_id.hpp"
#include "solver/cache_key.hpp"
#include "store/database/cache_keys.hpp"

namespace kiln::actors {

namespace cfg = configs::cluster;

namespace {

/// What a database knows of a question. Blocking.
cache_records look_up(const store::cache_keys& keys, const cache_query& question) {
  cache_records out;
  std::set<std::string> seen;
  auto add_results = [&](const std::string& key) {
    if (solver::is_random(key) || !seen.insert(key).second) return;
    for (auto& r : keys.results(key)) {
      if (out.results.size() >= cfg::answer_results_max) return;
      out.results.push_back({key, std::move(r)});
    }
  };
  for (const auto& asked : question.links) {
    if (solver::is_random(asked.parent) || solver::is_random(asked.link.digest)) continue;
    for (auto& child : keys.children(asked.parent, asked.link)) {
      if (solver::is_random(child) || out.links.size() >= cfg::answer_links_max) continue;
      add_results(child);
      out.links.push_back({asked.parent, asked.link, std::move(child)});
    }
  }
  for (const auto& root : question.roots) add_results(root);
  return out;
}

}  // namespace

caf::result<cache_records> peer_questions::answer(cache_query& q) {
  if (q.links.size() > cfg::question_links_max || q.roots.size() > cfg::question_roots_max)
    return to_caf(make_error(errc::invalid_argument, "too large a question"));
  if (!c_.options.keys || open_.size() >= cfg::questions_at_once_max)
    return to_caf(make_error(errc::resource_exhausted, "too many questions at a time"));
  auto promise = c_.self->make_response_promise<cache_records>();
  auto number = ++last_;
  open_.emplace(number, promise);
  c_.jobs.run<cache_records>(
      c_.self, *c_.options.io,
      [keys = c_.options.keys, q = std::move(q)]() -> result<cache_records> { return look_up(*keys, q); },
      [this, number](result<cache_records> facts) {
        auto promise = std::move(open_.extract(number).mapped());
        actors::answer(promise, std::move(facts));
      });
  return promise;
}

caf::result<cache_records> peer_questions::ask(cache_query& q) {
  if (q.links.size() > cfg::question_links_max) q.links.resize(cfg::question_links_max);
  if (q.roots.size() > cfg::question_roots_max) q.roots.resize(cfg::question_roots_max);
  auto gathered = std::make_shared<gathering>();
  auto promise = c_.self->make_response_promise<cache_records>();
  auto took = [this, gathered](const std::string& node, std::uint64_t, cache_records& facts) {
    merge(*gathered, node, facts);
  };
  auto done = [gathered, promise]() mutable { promise.deliver(std::move(gathered->all)); };
  if (!ask_peers<cache_records>(c_, members_, took, done, q)) done();
  return promise;
}

void peer_questions::refuse_all(const error& why) {
  for (auto& [number, promise] : std::exchange(open_, {})) promise.deliver(to_caf(why));
}

void peer_questions::merge(gathering& into, const std::string& peer, cache_records& facts) const {
  auto fits = [](const std::string& text) { return text.size() <= cfg::id_bytes_max; };
  if (facts.links.size() > cfg::answer_links_max || facts.results.size() > cfg::answer_results_max) {
    spdlog::warn("cluster: node {} answers a question with too much, ignored", peer);
    return;
  }
  for (auto& s : facts.links) {
    if (!fits(s.parent) || !fits(s.link.digest) || !fits(s.link.selector) || !fits(s.child)) continue;
    if (into.links.insert(s).second) into.all.links.push_back(std::move(s));
  }
  for (auto& r : facts.results) {
    auto& id = r.result.id;
    if (!fits(r.key) || !fits(id)) continue;
    if (id != scratch_result) {
      auto at = located_id::parse(id);
      if (at.id.empty() || (is_remote(id) && !is_node_name(at.node))) continue;
      id = retold(id, peer, c_.name());
    }
    if (into.results.emplace(r.key, id).second) into.all.results.push_back(std::move(r));
  }
}

}  // namespace kiln::actors
