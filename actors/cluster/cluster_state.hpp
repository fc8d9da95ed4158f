// The state of the membership actor (cluster.hpp), shared by the files that make it up: cluster.cpp (its
// inbound worker, time, and what this node may know of the cluster), cluster_links.cpp (links, from the hello
// to the end), cluster_routes.cpp (whom to dial), cluster_questions.cpp (cache keys of other nodes),
// cluster_drain.cpp (how this node leaves). Included by these only. Everything runs on the actor; what blocks
// runs on the pools of its options.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "actors/cluster/cluster.hpp"
#include "actors/cluster/inbound_worker.hpp"
#include "actors/ending.hpp"

namespace kiln::actors {

class cluster_state {
 public:
  cluster_state(cluster_impl::pointer self, cluster_options options);
  ~cluster_state();
  cluster_impl::behavior_type behavior();

 private:
  using time_point = caf::actor_clock::time_point;

  /// An open connection with another node, as both sides agreed on it.
  struct link {
    std::uint64_t id = 0;
    std::uint64_t opened = 0;  // order of events
    bool dialled = false;      // by this node
    node_info info;
    node_actor handle;
    peer_worker_actor their_worker;  // to their worker
    inbound_worker_impl our_worker;  // to ours
    node_load load;
    time_point heard;
    std::int64_t since_ns = 0;
    std::int64_t round_trip_ns = 0;
    bool heartbeat_open = false;  // a heartbeat is not answered yet
    bool slow = false;            // missed a question: not asked until a heartbeat was quick
  };

  /// An address to dial.
  struct route {
    enum class phase { idle, dialling, greeting };
    phase now = phase::idle;
    bool seed = false;
    bool self = false;          // this node under another name
    bool refused = false;       // by whoever answered
    int failures = 0;           // in a row
    time_point next;            // when to dial
    time_point touched;         // when somebody last spoke of it
    std::uint64_t greeted = 0;  // order of events
    std::string node;           // who answered there
    std::string reason;         // why it failed
    std::int64_t since_ns = 0;  // of the reason
  };

  struct seed_state {
    time_point next;
    bool resolving = false;
    std::string reason;  // of its failure
    std::set<std::string> addresses;
  };

  /// A node without a link.
  struct unreachable_node {
    node_info info;
    bool refused = false;
    std::string reason;
    std::int64_t since_ns = 0;
    time_point touched;
  };

  /// Everything that several peers answer, without doubles.
  struct gathering {
    cache_records all;
    std::set<std::pair<std::string, std::string>> results;  // key and id
    std::set<cache_edge> links;
    std::size_t missing = 0;
  };

  time_point now() const { return self_->clock().now(); }
  const std::string& name() const { return options_.self.name; }
  /// As much of another node's words as is kept.
  static std::string short_text(std::string text);

  // Time.
  void tick();
  void end_dead_links();
  /// What this node has to do and has done.
  void measure();

  // Beats.
  std::vector<std::string> neighbours() const;
  node_load own_load() const;
  link_heartbeat heartbeat_of(std::uint64_t id) const;
  void heartbeat(link& l);
  caf::result<link_heartbeat> take_heartbeat(link_heartbeat& heartbeat);
  void hear(link& l, link_heartbeat& heartbeat);

  // Links.
  link* link_named(const std::string& n, std::uint64_t id);
  /// The link of that id, if it is the present sender that it leads to.
  link* link_of_sender(std::uint64_t id);
  inbound_worker_impl make_inbound();
  /// Why no link to that node, which speaks through `node`, can be; nothing when it can.
  std::optional<error> validate_peer(const node_info& info, const caf::node_id& node);
  void note_refusal(const node_info& info, const std::string& reason);
  /// Another node says hello.
  caf::result<link_hello, peer_worker_actor> on_handshake(link_hello& hello, const caf::strong_actor_ptr& who,
                                                          const peer_worker_actor& their_worker);
  link& open(const link_hello& hello, const node_actor& handle, const peer_worker_actor& their_worker,
             const inbound_worker_impl& our_worker, bool dialled);
  /// Ends a link; its inbound worker goes, and with it all that came through.
  void end(link& ended, const std::string& reason);
  void down(const caf::down_msg& m);
  static peer_worker_actor handle_cast(const inbound_worker_impl& inbound_worker) {
    return caf::actor_cast<peer_worker_actor>(inbound_worker);
  }

  // Whom to dial.
  route* add_route(const std::string& address, bool wanted);
  void learn(const std::vector<std::string>& addresses);
  void resolve_seeds();
  void resolved(const std::string& seed, result<std::vector<std::string>> found);
  bool is_linked(const route& r) const;
  void dial_routes();
  void failed(const std::string& address, const error& e);
  void greet(const std::string& address, const node_actor& handle);
  /// Our hello was answered; false when no link comes of it.
  bool answered(const std::string& address, std::uint64_t id, const node_actor& handle,
                const inbound_worker_impl& inbound_worker, link_hello& hello,
                const peer_worker_actor& their_worker);
  void forget_old();

  // Questions.
  caf::result<cache_records> answer(cache_query& q);
  caf::result<cache_records> ask_peers(cache_query& q);
  void merge(gathering& into, const std::string& peer, cache_records& facts) const;

  // Draining.
  bool drain();
  caf::result<bool> drain_node(const std::string& n);
  caf::result<bool> drain_and_wait();
  /// Leaves when nobody has anything here any more, or the grace is over.
  void check_drained();
  void leave(bool clean);

  // What others on this node want to know.
  void add_listener(const members_listener& who);
  cluster_view view() const;

  cluster_impl::pointer self_;
  ending ending_;
  cluster_options options_;
  std::mt19937_64 random_;
  job_runner jobs_;
  std::map<std::string, link> links_;  // by name
  std::map<std::string, unreachable_node> unreachable_;
  std::map<std::pair<std::string, std::string>, unreachable_node> refusals_;  // by name and address
  std::map<std::string, route> routes_;                                       // by address
  std::map<std::string, seed_state> seeds_;
  std::map<std::uint64_t, inbound_worker_impl> greetings_;  // workers of hellos that are not answered yet
  std::map<caf::actor_addr, members_listener> listeners_;
  std::map<std::uint64_t, caf::typed_response_promise<cache_records>> questions_;
  std::vector<caf::typed_response_promise<bool>> leavers_;
  node_load load_;
  std::uint64_t events_ = 0;
  std::int64_t since_ns_ = 0;
  time_point drain_until_;
  bool asking_worker_ = false;
  bool counting_ = false;
  bool draining_ = false;
  bool checking_drained_ = false;
  bool left_ = false;
  bool left_clean_ = false;
};

}  // namespace kiln::actors
