#include "actors/cluster/inbound_worker.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <type_traits>

#include <spdlog/spdlog.h>

#include "actors/handle_rest.hpp"
#include "actors/peers.hpp"
#include "configs/cluster.hpp"

namespace kiln::actors {

namespace {

namespace cfg = configs::cluster;

/// Facts that another node wants remembered: as large as an answer at most.
bool fits(const cache_records& facts) {
  auto short_enough = [](const std::string& id) { return id.size() <= cfg::id_bytes_max; };
  return facts.links.size() <= cfg::answer_links_max && facts.results.size() <= cfg::answer_results_max &&
         std::all_of(facts.links.begin(), facts.links.end(),
                     [&](const auto& s) {
                       return short_enough(s.child) && short_enough(s.parent) &&
                              short_enough(s.link.digest) && short_enough(s.link.selector);
                     }) &&
         std::all_of(facts.results.begin(), facts.results.end(),
                     [&](const auto& r) { return short_enough(r.key) && short_enough(r.result.id); });
}

class inbound_worker_state {
 public:
  inbound_worker_state(inbound_worker_impl::pointer self, inbound_worker_options options)
      : self_(self), options_(std::move(options)) {}

  ~inbound_worker_state() {
    auto worker = options_.worker();
    if (!worker) return;
    for (const auto& [address, handle] : clients_) caf::anon_send(worker, leave_atom::value, handle);
  }

  inbound_worker_impl::behavior_type behavior() {
    self_->set_down_handler([this](caf::down_msg& m) { clients_.erase(m.source); });
    self_->set_default_handler(caf::drop);  // what is not for other nodes: an error, and no word
    return handle_rest<inbound_worker_impl>(
        [this]<class Reply, class First, class... Parts>(First&& first,
                                                         Parts&&... parts) -> caf::result<Reply> {
          if (auto refused = refusal(first)) return to_caf(*refused);
          return pass<Reply>(std::forward<First>(first), std::forward<Parts>(parts)...);
        },
        [this](auto&&... parts) { tell(std::move(parts)...); },
        [this](remember_atom a, cache_records& facts) { remember(a, facts); },
        [this](drain_atom) { options_.draining = true; },
        [this](list_atom) { return static_cast<std::uint64_t>(clients_.size()); });
  }

 private:
  /// Why nobody gets an answer to a question that begins so.
  template <class First>
  std::optional<error> refusal([[maybe_unused]] const First& first) const {
    constexpr bool is_run = std::is_same_v<First, run_request>;
    // What lies here is looked at here, also where no steps run: sources of its builds are its refs, too.
    if (is_run && options_.role == node_role::coordinator)
      return make_error(errc::failed_precondition, "node " + options_.node + " coordinates only");
    if (is_run && options_.draining)
      return make_error(errc::unavailable, "node " + options_.node + " is draining");
    // Sources belong to the node whose clients they are for; nobody is lent ours.
    if constexpr (is_run) {
      if (first.op.op.has_source() || first.op.op.has_build())
        return make_error(errc::permission_denied,
                          "node " + options_.node + " fetches no sources for other nodes");
    }
    return std::nullopt;
  }

  /// Notes the present sender as one who may have something here; false when there are too many.
  bool let_in() {
    auto sender = self_->current_sender();
    if (!sender) return true;
    auto address = caf::actor_cast<caf::actor_addr>(sender);
    if (clients_.contains(address)) return true;
    if (clients_.size() >= cfg::inbound_clients_max) return false;
    self_->monitor(caf::actor_cast<caf::actor>(sender));
    clients_.emplace(std::move(address), std::move(sender));
    return true;
  }

  template <class Reply, class... Args>
  caf::result<Reply> pass(Args&&... args) {
    auto worker = options_.worker();
    if (!worker) return peer_down("the worker of node");
    // Who prunes has nothing here afterwards.
    constexpr bool leaves_nothing = (std::is_same_v<std::decay_t<Args>, prune_caches> || ...);
    if (!leaves_nothing && !let_in())
      return to_caf(make_error(errc::resource_exhausted, "too many requesters at node " + options_.node));
    return self_->delegate(worker, std::forward<Args>(args)...);
  }

  void remember(remember_atom a, cache_records& facts) {
    if (fits(facts)) return tell(a, std::move(facts));
    spdlog::warn("another node wants too much remembered: {} links, {} results", facts.links.size(),
                 facts.results.size());
  }

  /// What has no answer leaves nothing here that belonged to its sender.
  template <class... Args>
  void tell(Args&&... args) {
    if (auto worker = options_.worker()) self_->delegate(worker, std::forward<Args>(args)...);
  }

  inbound_worker_impl::pointer self_;
  inbound_worker_options options_;
  std::map<caf::actor_addr, caf::strong_actor_ptr> clients_;
};

}  // namespace

inbound_worker_impl::behavior_type inbound_worker(inbound_worker_impl::stateful_pointer<actor_state> self,
                                                  inbound_worker_options options) {
  return self->state.hold<inbound_worker_state>("inbound_worker", self, std::move(options)).behavior();
}

}  // namespace kiln::actors
