#include "actors/cluster/inbound_worker.hpp"

#include <algorithm>
#include <map>
#include <optional>
#include <type_traits>

#include <spdlog/spdlog.h>

#include "actors/peers.hpp"
#include "actors/worker/forward_worker_messages.hpp"
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
                       return short_enough(s.child) && short_enough(s.link.parent) &&
                              short_enough(s.link.digest) && short_enough(s.link.selector);
                     }) &&
         std::all_of(facts.results.begin(), facts.results.end(),
                     [&](const auto& r) { return short_enough(r.key) && short_enough(r.id); });
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
    return forward_worker_messages<inbound_worker_impl>(
        [this]<class Reply, class First, class... Parts>(First&& first,
                                                         Parts&&... parts) -> caf::result<Reply> {
          if (auto refused = refusal(first)) return to_caf(*refused);
          return pass<Reply>(std::forward<First>(first), std::forward<Parts>(parts)...);
        },
        [this](auto atom, const auto& part) { take(atom, part); },
        [this](drain_atom) { options_.draining = true; },
        [this](list_atom) { return static_cast<std::uint64_t>(clients_.size()); });
  }

 private:
  /// Why nobody gets an answer to a question that begins so. Exports, imports and sources belong to the node
  /// whose clients they are for; nobody is lent ours.
  template <class First>
  std::optional<error> refusal([[maybe_unused]] const First& first) const {
    constexpr bool is_run = std::is_same_v<First, run_request>;
    constexpr bool is_work = is_run || std::is_same_v<First, checksum_request>;
    constexpr bool is_look = std::is_same_v<First, pin_atom> || std::is_same_v<First, ref_scope> ||
                             std::is_same_v<First, describe_atom> || std::is_same_v<First, load_count_atom>;
    if constexpr (!is_work && !is_look && !std::is_same_v<First, prune_caches>)
      return make_error(errc::permission_denied,
                        "node " + options_.node + " does not do that for other nodes");
    if (is_work && options_.role == node_role::coordinator)
      return make_error(errc::failed_precondition, "node " + options_.node + " coordinates only");
    if (is_run && options_.draining)
      return make_error(errc::unavailable, "node " + options_.node + " is draining");
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

  /// What has no answer, and leaves nothing here that belonged to its sender.
  void take(release_atom a, const std::string& id) { tell(a, id); }

  void take(remember_atom a, const cache_records& facts) {
    if (fits(facts)) return tell(a, facts);
    spdlog::warn("another node wants too much remembered: {} links, {} results", facts.links.size(),
                 facts.results.size());
  }

  /// Only for those who came through here.
  void take(leave_atom, const caf::strong_actor_ptr& who) {
    auto found = clients_.find(caf::actor_cast<caf::actor_addr>(who));
    if (found == clients_.end()) return;
    self_->demonitor(found->first);
    clients_.erase(found);
    if (auto worker = options_.worker()) self_->send(worker, leave_atom::value, who);
  }

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
