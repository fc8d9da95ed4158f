#include "actors/cluster/step_dispatcher.hpp"

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include <spdlog/spdlog.h>

#include "actors/cluster/remote_worker.hpp"
#include "actors/cluster/step_scheduler.hpp"
#include "actors/cluster/worker_offer.hpp"
#include "actors/ending.hpp"
#include "actors/handle_rest.hpp"
#include "actors/progress.hpp"
#include "configs/cluster.hpp"
#include "configs/placing.hpp"
#include "messages/located_id.hpp"
#include "solver/error_details.hpp"

namespace kiln::actors {

namespace limits = configs::placing;

namespace {

/// A step that waits or runs.
struct step {
  work_item item;
  run_request request;
  progress_actor progress;
  caf::strong_actor_ptr requester;
  caf::typed_response_promise<run_reply> promise;
  std::string node;             // where it runs; empty while it waits
  std::shared_ptr<void> grant;  // what it may ask of sessions while it runs elsewhere
  int attempts = 0;
  std::int64_t lonely_since_ns = 0;  // until a node may run it; 0: it is not
};

constexpr const char* lonely_note = "waiting for a node of the cluster that may run this step";

class step_dispatcher_state {
 public:
  step_dispatcher_state(step_dispatcher_impl::pointer self, step_dispatcher_options options)
      : self_(self), options_(std::move(options)), places_(options_.self.name) {
    places_.put_node(options_.self, self_->clock().now());
    seek_cluster();
  }

  ~step_dispatcher_state() {
    auto gone =
        to_caf(ending_.for_waiters(make_error(errc::unavailable, "step_dispatcher is shutting down")));
    for (auto& [id, s] : std::exchange(steps_, {})) s.promise.deliver(gone);
    offer_.refuse_all(gone);
  }

  step_dispatcher_impl::behavior_type behavior() {
    ending_.watch(self_, "the step_dispatcher");
    self_->set_down_handler([this](caf::down_msg& m) { forget(m.source); });
    return handle_rest<step_dispatcher_impl>(
        // The local worker's own.
        [this]<class Reply, class... Parts>(Parts&&... parts) -> caf::result<Reply> {
          return here<Reply>(std::forward<Parts>(parts)...);
        },
        [this](auto&&... parts) {
          if (auto worker = options_.worker()) self_->send(worker, std::move(parts)...);
        },

        [this](describe_atom) { return offer_.describe(); },

        // Steps, and refs that may be anywhere.
        [this](run_request& r, const progress_actor& p) { return run(r, p); },
        [this](checksum_request& r, progress_actor& p) -> caf::result<digest> {
          return look<digest>(r, std::move(p));
        },
        [this](pin_atom a, const std::string& id) -> caf::result<bool> {
          auto at = place_of(id);
          return there<bool>(nullptr, at.node, id, a, at.id);
        },
        [this](release_atom a, const std::string& id) {
          auto at = place_of(id);
          auto sender = self_->current_sender();
          auto remote_worker = remote_workers_.find({caf::actor_cast<caf::actor_addr>(sender), at.node});
          if (remote_worker != remote_workers_.end()) self_->send(remote_worker->second, a, at.id);
        },
        [this](ref_scope& s, gw::ReadFileRequest& r) { return look<gw::ReadFileResponse>(s, std::move(r)); },
        [this](ref_scope& s, gw::ReadDirRequest& r) { return look<gw::ReadDirResponse>(s, std::move(r)); },
        [this](ref_scope& s, gw::StatFileRequest& r) { return look<gw::StatFileResponse>(s, std::move(r)); },
        [this](prune_caches& r) { return prune(r); },
        [this](remember_atom, const cache_records& facts) { remember(facts); },

        // Nodes.
        [this](join_atom, const node_info& info, const peer_worker_actor& inbound_worker) {
          node_joined(info, inbound_worker);
        },
        [this](const node_load& load, const std::string& name) {
          places_.set_load(name, load, self_->clock().now());
          assign();
        },
        [this](leave_atom, const std::string& name) { node_left(name); },
        [this](seek_atom) { seek_cluster(); },
        [this](assign_atom) {
          alarm_.reset();
          offer_.answer_early();
          assign();
        });
  }

 private:
  const std::string& name() const { return options_.self.name; }

  template <class Reply, class... Parts>
  caf::result<Reply> here(Parts&&... parts) {
    auto worker = options_.worker();
    if (!worker) return to_caf(make_error(errc::unavailable, "worker is restarting, try again"));
    return self_->delegate(worker, std::forward<Parts>(parts)...);
  }

  /// Asks the node that has `ref` on behalf of the present sender. Only that node can answer, so its end is
  /// the ref's.
  template <class Reply, class... Parts>
  caf::result<Reply> there(std::shared_ptr<void> grant, const std::string& node, const std::string& ref,
                           Parts&&... parts) {
    auto sender = self_->current_sender();
    if (!sender) return to_caf(make_error(errc::invalid_argument, "anonymous request"));
    if (!places_.has_node(node)) return to_caf(lost_with(node, ref));
    auto remote_worker = remote_worker_of(sender, node);
    if (!remote_worker) return to_caf(make_error(errc::unavailable, "worker is restarting, try again"));
    auto promise = self_->make_response_promise<Reply>();
    self_->request(remote_worker, caf::infinite, std::forward<Parts>(parts)...)
        .then([promise, grant](Reply& reply) mutable { promise.deliver(std::move(reply)); },
              [this, promise, node, ref, grant](caf::error& e) mutable {
                auto failure = from_caf(e);
                // Also when the cluster has not told of its end yet.
                if (failure.code == errc::unavailable && node != name()) failure = lost_with(node, ref);
                promise.deliver(to_caf(std::move(failure)));
              });
    return promise;
  }

  static error lost_with(const std::string& node, const std::string& ref) {
    return solver::lost_ref(ref, "node " + node + " is gone");
  }

  /// Where a ref is, this node by its name.
  located_id place_of(const std::string& ref) const {
    auto at = located_id::parse(ref);
    if (!at.is_remote()) at.node = name();
    return at;
  }

  /// A question about a ref, which `scope` names.
  template <class Reply, class Scope, class Rest>
  caf::result<Reply> look(Scope& scope, Rest rest) {
    if (!is_remote(scope.ref)) return here<Reply>(std::move(scope), std::move(rest));
    auto at = place_of(scope.ref);
    auto named = std::exchange(scope.ref, at.id);
    if constexpr (requires { scope.owners; }) scope.owners = retold_owners(scope.owners, at.node);
    auto grant = lend(at.node, scope.sessions);
    return there<Reply>(std::move(grant), at.node, named, std::move(scope), std::move(rest));
  }

  /// Of records that this node tells that one of.
  result_owners retold_owners(const result_owners& owners, const std::string& node) const {
    result_owners out;
    for (const auto& [record, vertex] : owners) out[retold(record, name(), node)] = vertex;
    return out;
  }

  /// Names our clients' sessions as other nodes do, and grants that node what `op` needs of them for as long
  /// as the result lives; without an op, what it takes to read refs. `judge`: the session that is asked about
  /// what it fetches.
  std::shared_ptr<void> lend(const std::string& node, session_group& sessions, const pb::Op& op = {},
                             const std::string& judge = {}) {
    auto grant = grant_of(op, sessions);
    if (!judge.empty()) grant.judges.emplace(strip_session_prefix(judge));
    for (auto& id : sessions.ids) id = retold(id, name(), node);
    return options_.grants ? options_.grants->add(node, std::move(grant)) : nullptr;
  }

  /// Everywhere, before it is answered: the steps that want these caches empty may run on any node.
  caf::result<bool> prune(const prune_caches& r) {
    auto own = options_.worker();
    if (!own) return to_caf(make_error(errc::unavailable, "worker is restarting, try again"));
    auto promise = self_->make_response_promise<bool>();
    auto missing = std::make_shared<std::size_t>(1 + nodes_.size());
    auto outcome = std::make_shared<status>();
    auto one_less = [missing, outcome, promise]() mutable {
      if (--*missing > 0) return;
      if (outcome->ok()) promise.deliver(true);
      else promise.deliver(to_caf(outcome->error()));
    };
    for (auto& [node, inbound_worker] : nodes_) {
      auto id = ++last_prune_;
      prunes_.emplace(std::pair(node, id), one_less);
      auto answered = [this, node = node, id] {
        if (auto found = prunes_.extract({node, id}); !found.empty()) found.mapped()();
      };
      self_->request(inbound_worker, caf::infinite, r)
          .then([answered](bool) { answered(); }, [answered](caf::error&) { answered(); });
    }
    self_->request(own, caf::infinite, r)
        .then([one_less](bool) mutable { one_less(); },
              [one_less, outcome](caf::error& e) mutable {
                *outcome = from_caf(e);
                one_less();
              });
    return promise;
  }

  /// What it had of caches is gone with it.
  void forget_prunes(const std::string& node) {
    for (auto at = prunes_.lower_bound({node, 0}); at != prunes_.end() && at->first.first == node;) {
      auto answered = std::move(at->second);
      at = prunes_.erase(at);
      answered();
    }
  }

  // Remote workers.

  using remote_worker_key = std::pair<caf::actor_addr, std::string>;

  peer_worker_actor worker_of(const std::string& node) const {
    if (node == name()) return options_.worker();
    auto found = nodes_.find(node);
    return found == nodes_.end() ? peer_worker_actor{} : found->second;
  }

  remote_worker_impl remote_worker_of(const caf::strong_actor_ptr& who, const std::string& node) {
    auto address = caf::actor_cast<caf::actor_addr>(who);
    auto found = remote_workers_.find({address, node});
    if (found != remote_workers_.end()) return found->second;
    auto inbound_worker = worker_of(node);
    if (!inbound_worker) return {};
    watch(who);
    auto made = self_->spawn(remote_worker, remote_worker_options{inbound_worker, who, node});
    self_->monitor(made);
    remote_workers_.emplace(remote_worker_key{address, node}, made);
    owners_.emplace(made.address(), remote_worker_key{address, node});
    return made;
  }

  void watch(const caf::strong_actor_ptr& who) {
    if (watched_.insert(caf::actor_cast<caf::actor_addr>(who)).second)
      self_->monitor(caf::actor_cast<caf::actor>(who));
  }

  /// A remote worker, a requester or the cluster actor has gone.
  void forget(const caf::actor_addr& who) {
    if (who == cluster_) {
      // Its links have ended with it.
      while (!nodes_.empty()) node_left(std::string(nodes_.begin()->first));
      return seek_cluster();
    }
    if (auto owner = owners_.find(who); owner != owners_.end()) {
      remote_workers_.erase(owner->second);
      owners_.erase(owner);
      return;
    }
    if (watched_.erase(who) == 0) return;
    std::vector<std::uint64_t> theirs;
    for (const auto& [id, s] : steps_)
      if (caf::actor_cast<caf::actor_addr>(s.requester) == who) theirs.push_back(id);
    for (auto id : theirs) {
      steps_.erase(id);
      places_.finish(id, self_->clock().now());
    }
    if (!theirs.empty()) assign();
  }

  // Steps.

  caf::result<run_reply> run(run_request& r, const progress_actor& progress) {
    auto sender = self_->current_sender();
    if (!sender) return to_caf(make_error(errc::invalid_argument, "anonymous request"));
    step s;
    s.item.id = ++last_step_;
    s.item.build = r.sessions.ids.empty() ? "" : r.sessions.ids.front();
    s.item.inputs = r.inputs;
    s.item.executes = r.op.op.has_exec();
    s.item.platform = r.op.platform;
    for (const auto& filter : r.op.op.constraints().filter()) s.item.constraints.push_back(filter);
    s.item.privileges = privileges_of(r.op.op);
    for (const auto& mount : r.op.op.exec().mounts())
      if (mount.mounttype() == pb::CACHE)
        s.item.inputs.push_back("cache:" + r.op.cache_mount_namespace + "/" + mount.cacheopt().id());
    s.request = std::move(r);
    s.progress = progress;
    s.requester = sender;
    watch(sender);
    s.promise = self_->make_response_promise<run_reply>();
    auto promise = s.promise;
    auto id = s.item.id;
    bool is_source = s.request.op.op.has_source();
    steps_.emplace(id, std::move(s));
    // Sources are fetched where the client's files and credentials are.
    if (is_source) {
      start(id, name());
    } else {
      submit(id);
    }
    return promise;
  }

  void submit(std::uint64_t id) {
    auto& s = steps_.at(id);
    s.node.clear();
    s.grant = nullptr;
    places_.submit(s.item, self_->clock().now());
    assign();
  }

  void assign() {
    // Steps that fail as they start free places: further ones are then started here, not from within.
    assign_again_ = true;
    if (std::exchange(assigning_, true)) return;
    while (std::exchange(assign_again_, false)) {
      auto now = places_.assign(self_->clock().now());
      for (const auto& a : now.starts) start(a.id, a.node);
      for (auto id : now.lonely) set_lonely(steps_.at(id), true);
      for (auto id : now.given_up) fail(id, nobody_runs(steps_.at(id)));
    }
    assigning_ = false;
    auto wake = places_.wake_at();
    if (!wake || (alarm_ && *alarm_ <= *wake)) return;
    alarm_ = wake;
    auto wait = std::max(*wake - self_->clock().now(), work_time::duration{0});
    self_->delayed_send(handle_of<step_dispatcher_impl>(self_), wait, assign_atom::value);
  }

  void start(std::uint64_t id, const std::string& node) {
    auto& s = steps_.at(id);
    s.node = node;
    set_lonely(s, false);
    auto remote_worker = remote_worker_of(s.requester, node);
    if (!remote_worker) return again(id, make_error(errc::unavailable, "worker is restarting, try again"));
    auto request = s.request;
    bool elsewhere = node != name();
    for (auto& input : request.inputs) input = retold(input, name(), node);
    request.owners = retold_owners(request.owners, node);
    s.grant =
        elsewhere ? lend(node, request.sessions, request.op.op, request.op.proxy.policy_session) : nullptr;
    if (elsewhere && !request.op.proxy.policy_session.empty())
      request.op.proxy.policy_session = retold(request.op.proxy.policy_session, name(), node);
    // A step that comes back from another node is told of, too.
    if (elsewhere || s.attempts > 0) self_->send(s.progress, note_of(s.request.op.vertex, "on node " + node));
    self_->request(remote_worker, caf::infinite, std::move(request), s.progress)
        .then([this, id, node](run_reply& reply) { ran(id, node, reply); },
              [this, id, node](caf::error& e) { run_failed(id, node, from_caf(e)); });
  }

  /// One line beside the step, as every client shows it; times in Unix nanoseconds, 0: it is not completed.
  static ctl::StatusResponse note_of(const std::string& vertex, const std::string& text,
                                     std::int64_t started_ns = unix_now_ns(),
                                     std::int64_t completed_ns = unix_now_ns()) {
    ctl::StatusResponse out;
    auto& status = *out.add_statuses();
    status.set_vertex(vertex);
    status.set_id(text);
    status.set_name(text);
    set_time(*status.mutable_timestamp(), unix_now_ns());
    set_time(*status.mutable_started(), started_ns);
    if (completed_ns != 0) set_time(*status.mutable_completed(), completed_ns);
    return out;
  }

  /// Clients see for how long no node may run the step.
  void set_lonely(step& s, bool lonely) {
    if (lonely == (s.lonely_since_ns != 0)) return;
    auto now = unix_now_ns();
    auto since = lonely ? now : s.lonely_since_ns;
    self_->send(s.progress, note_of(s.request.op.vertex, lonely_note, since, lonely ? 0 : now));
    s.lonely_since_ns = lonely ? now : 0;
  }

  error nobody_runs(const step& s) const {
    if (places_.runners().empty())
      return make_error(errc::failed_precondition,
                        "no node of the cluster runs steps, and none has joined in time");
    std::string needs;
    auto add = [&](const std::string& what) { needs += (needs.empty() ? "" : ", ") + what; };
    const auto& exec = s.item.privileges.exec();
    if (exec.network() == pb::HOST) add("entitlement network.host");
    if (exec.security() == pb::INSECURE) add("entitlement security.insecure");
    for (const auto& d : exec.cdidevices()) add("device " + d.name());
    for (const auto& filter : s.item.constraints) add("constraint " + filter);
    return make_error(errc::failed_precondition,
                      "no node of the cluster may run this step, which needs " + needs);
  }

  bool is_current(std::uint64_t id, const std::string& node) const {
    auto found = steps_.find(id);
    return found != steps_.end() && found->second.node == node;
  }

  /// What a worker elsewhere says it made, as far as it can be true.
  static bool is_sound(const step& s, const run_reply& reply) {
    auto most = static_cast<std::size_t>(1 + s.request.op.op.exec().mounts_size() +
                                         s.request.op.op.file().actions_size() +
                                         s.request.op.op.passthrough().outputs_size());
    return reply.outputs.size() <= most &&
           std::all_of(reply.outputs.begin(), reply.outputs.end(),
                       [](const auto& id) { return id.size() <= configs::cluster::id_bytes_max; });
  }

  void ran(std::uint64_t id, const std::string& node, run_reply& reply) {
    if (!is_current(id, node)) return;
    if (!is_sound(steps_.at(id), reply))
      return fail(id, make_error(errc::internal, "node " + node + " answers what no step makes"));
    auto s = std::move(steps_.extract(id).mapped());
    places_.finish(id, self_->clock().now());
    for (const auto& input : s.request.inputs) places_.learn(input, -1, node);
    for (std::size_t n = 0; n < reply.outputs.size(); ++n) {
      auto& output = reply.outputs[n];
      output = retold(output, node, name());
      places_.learn(output, n < reply.bytes.size() ? reply.bytes[n] : -1, node);
    }
    s.promise.deliver(std::move(reply));
    assign();
  }

  void run_failed(std::uint64_t id, const std::string& node, error e) {
    if (!is_current(id, node)) return;
    if (e.code == errc::unavailable) return again(id, std::move(e));
    if (node == name()) return fail(id, std::move(e));
    if (auto lost = solver::lost_ref_of(e); !lost.empty()) {
      auto ref = retold(lost, node, name());
      // What is there as far as is known here, that node only could not get. Once a node: it may be gone
      // there.
      auto owner = place_of(ref).node;
      bool is_reachable =
          owner != node && places_.has_node(owner) && !steps_.at(id).item.avoid.contains(node);
      if (is_remote(ref) && !is_reachable) return fail(id, solver::lost_ref(ref, e.message));
      return again(id, std::move(e));
    }
    solver::rename_refs(e, [this, &node](const std::string& ref) { return retold(ref, node, name()); });
    fail(id, std::move(e));
  }

  /// Its node failed the step, not the step itself: somewhere else, as long as that makes sense.
  void again(std::uint64_t id, error why) {
    auto& s = steps_.at(id);
    // A source stays where its build has resolved it and its client is.
    if (s.request.op.op.has_source()) return fail(id, std::move(why));
    places_.finish(id, self_->clock().now());
    if (++s.attempts >= limits::attempts_max) return fail(id, std::move(why));
    spdlog::info("step {} is placed again: {}", s.request.op.vertex, why.message);
    s.item.avoid.insert(s.node);
    submit(id);
  }

  void fail(std::uint64_t id, error e) {
    auto s = std::move(steps_.extract(id).mapped());
    set_lonely(s, false);
    places_.finish(id, self_->clock().now());
    s.promise.deliver(to_caf(std::move(e)));
    assign();
  }

  // Nodes.

  /// The cluster actor starts after this one, and anew after a fault.
  void seek_cluster() {
    if (auto cluster = options_.cluster(); cluster && cluster.address() != cluster_) {
      cluster_ = cluster.address();
      self_->monitor(cluster);
      self_->send(cluster, join_atom::value, handle_of<members_listener>(self_));
    } else {
      self_->delayed_send(handle_of<step_dispatcher_impl>(self_), limits::seek_interval, seek_atom::value);
    }
  }

  void node_joined(const node_info& info, const peer_worker_actor& inbound_worker) {
    if (info.name == name()) return;
    if (places_.has_node(info.name)) node_left(info.name);
    if (options_.node_up) options_.node_up(info);
    nodes_[info.name] = inbound_worker;
    places_.put_node(info, self_->clock().now());
    offer_.answer_early();
    assign();
  }

  void node_left(const std::string& node) {
    if (node == name() || nodes_.erase(node) == 0) return;
    // Their running steps come back as failures of their remote workers.
    places_.drop_node(node, self_->clock().now());
    if (options_.node_down) options_.node_down(node);
    forget_prunes(node);
    for (auto& [key, remote_worker] : remote_workers_)
      if (key.second == node) self_->send(remote_worker, node_lost_atom::value);
    for (auto at = remote_workers_.begin(); at != remote_workers_.end();) {
      if (at->first.second != node) {
        ++at;
        continue;
      }
      owners_.erase(at->second.address());
      at = remote_workers_.erase(at);
    }
    assign();
  }

  /// Results of other nodes are known there too, so that they outlive this one.
  void remember(const cache_records& facts) {
    std::set<std::string> nodes;
    for (const auto& r : facts.results)
      if (is_remote(r.result.id)) nodes.insert(located_id::parse(r.result.id).node);
    for (const auto& node : nodes) {
      auto inbound_worker = nodes_.find(node);
      if (inbound_worker == nodes_.end()) continue;
      auto theirs = facts;
      for (auto& [key, r] : theirs.results)
        if (r.id != scratch_result) r.id = retold(r.id, name(), node);
      self_->send(inbound_worker->second, remember_atom::value, std::move(theirs));
    }
  }

  step_dispatcher_impl::pointer self_;
  ending ending_;
  step_dispatcher_options options_;
  step_scheduler places_;
  worker_offer offer_{self_, options_, places_};
  std::map<std::string, peer_worker_actor> nodes_;
  std::map<remote_worker_key, remote_worker_impl> remote_workers_;
  std::map<caf::actor_addr, remote_worker_key> owners_;  // of remote workers
  std::set<caf::actor_addr> watched_;                    // requesters
  std::map<std::uint64_t, step> steps_;
  std::uint64_t last_step_ = 0, last_prune_ = 0;
  std::map<std::pair<std::string, std::uint64_t>, std::function<void()>>
      prunes_;  // by node: not answered yet
  std::optional<work_time> alarm_;
  bool assigning_ = false, assign_again_ = false;
  caf::actor_addr cluster_;  // that told of the nodes
};

}  // namespace

step_dispatcher_impl::behavior_type step_dispatcher(step_dispatcher_impl::stateful_pointer<actor_state> self,
                                                    step_dispatcher_options options) {
  return self->state.hold<step_dispatcher_state>("step_dispatcher", self, std::move(options)).behavior();
}

}  // namespace kiln::actors
