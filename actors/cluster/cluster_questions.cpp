// What other nodes know of cache keys: answering their questions, and asking all of them at once.
#include <spdlog/spdlog.h>

#include "actors/cluster/cluster_state.hpp"
#include "messages/cluster_text.hpp"
#include "messages/located_id.hpp"

namespace kiln::actors {

namespace cfg = configs::cluster;

caf::result<cache_records> cluster_state::answer(cache_query& q) {
  if (q.links.size() > cfg::question_links_max || q.roots.size() > cfg::question_roots_max)
    return to_caf(make_error(errc::invalid_argument, "too large a question"));
  if (!options_.keys || questions_.size() >= cfg::questions_at_once_max)
    return to_caf(make_error(errc::resource_exhausted, "too many questions at a time"));
  auto promise = self_->make_response_promise<cache_records>();
  auto number = ++events_;
  questions_.emplace(number, promise);
  jobs_.run<cache_records>(
      self_, *options_.io,
      [keys = options_.keys, q = std::move(q)]() -> result<cache_records> {
        return answer_question(*keys, q);
      },
      [this, number](result<cache_records> facts) {
        auto found = questions_.find(number);
        auto promise = std::move(found->second);
        questions_.erase(found);
        actors::answer(promise, std::move(facts));
      });
  return promise;
}

caf::result<cache_records> cluster_state::ask_peers(cache_query& q) {
  if (q.links.size() > cfg::question_links_max) q.links.resize(cfg::question_links_max);
  if (q.roots.size() > cfg::question_roots_max) q.roots.resize(cfg::question_roots_max);
  auto gathered = std::make_shared<gathering>();
  for (const auto& [n, l] : links_) gathered->missing += l.slow ? 0 : 1;
  if (gathered->missing == 0) return cache_records{};
  auto promise = self_->make_response_promise<cache_records>();
  auto one_less = [gathered, promise]() mutable {
    if (--gathered->missing == 0) promise.deliver(std::move(gathered->all));
  };
  for (const auto& [n, l] : links_) {
    if (l.slow) continue;
    self_->request(l.handle, options_.peer_answer_time, q)
        .then(
            [this, n = n, gathered, one_less](cache_records& facts) mutable {
              merge(*gathered, n, facts);
              one_less();
            },
            [this, n = n, id = l.id, one_less](const caf::error& e) mutable {
              if (auto* l = link_named(n, id); l && from_caf(e).code == errc::deadline_exceeded)
                l->slow = true;
              one_less();
            });
  }
  return promise;
}

void cluster_state::merge(gathering& into, const std::string& peer, cache_records& facts) const {
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
      id = retold(id, peer, name());
    }
    if (into.results.emplace(r.key, id).second) into.all.results.push_back(std::move(r));
  }
}

}  // namespace kiln::actors
