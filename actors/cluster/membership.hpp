// Who is linked with this node: who may be, the hello of who dials us, heartbeats, how a link ends, and whom
// of this node's actors that is told. Whom to dial is somebody else's: the address_book. Used on the
// cluster's actor only.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "actors/cluster/cluster_context.hpp"
#include "actors/cluster/inbound_worker.hpp"

namespace kiln::actors {

/// An open connection with another node, as both sides agreed on it.
struct cluster_link {
  std::uint64_t id = 0;
  std::uint64_t opened = 0;  // order of events
  bool dialled = false;      // by this node
  node_info info;
  node_actor handle;
  peer_worker_actor their_worker;  // to their worker
  inbound_worker_impl our_worker;  // to ours
  node_load load;
  cluster_context::time_point heard;
  std::int64_t since_ns = 0;
  std::int64_t round_trip_ns = 0;
  bool heartbeat_open = false;  // a heartbeat is not answered yet
  bool slow = false;            // missed a question: not asked until a heartbeat was quick
};

/// Who keeps the addresses of nodes, as links come and go.
class address_book {
 public:
  /// Whether our own hello is on its way to that address.
  virtual bool is_greeting(const std::string& address) const = 0;
  /// Others speak of these addresses.
  virtual void learn(const std::vector<std::string>& addresses) = 0;
  virtual void opened(const node_info& node) = 0;
  virtual void ended(const node_info& node) = 0;

 protected:
  ~address_book() = default;
};

class membership {
 public:
  /// Both must outlive this, but `book` is not used before the first message.
  membership(cluster_context& cluster, address_book& book) : c_(cluster), book_(book) {}
  ~membership();

  // Links.
  const std::map<std::string, cluster_link>& links() const { return links_; }
  bool is_linked(const std::string& node) const { return links_.contains(node); }
  /// Null when that link is not open any more.
  cluster_link* find(const std::string& node, std::uint64_t id);
  /// Control addresses of the nodes that are linked.
  std::vector<std::string> neighbours() const;

  /// An inbound worker for a link that is to be.
  inbound_worker_impl make_inbound();
  /// Why no link to that node, which speaks through `node`, can be; nothing when it can.
  std::optional<error> validate_peer(const node_info& info, const caf::node_id& node);
  cluster_link& open(const link_hello& hello, const node_actor& handle, const peer_worker_actor& their_worker,
                     const inbound_worker_impl& our_worker, bool dialled);
  /// A node that is not linked refuses us.
  void note_refused_by(const std::string& node, const std::string& reason);

  // What other nodes say.
  /// Another node says hello.
  caf::result<link_hello, peer_worker_actor> on_handshake(link_hello& hello, const caf::strong_actor_ptr& who,
                                                          const peer_worker_actor& their_worker);
  caf::result<link_heartbeat> take_heartbeat(link_heartbeat& heartbeat);
  /// The present sender closes its link.
  void closed(std::uint64_t id, const std::string& reason);

  // This node.
  /// Ends the links that nothing was heard of for too long.
  void end_dead();
  void send_heartbeats();
  /// It takes no new work, which all are told at once.
  void tell_draining();
  /// Ends all links; the others hear `to_them`.
  void end_all(const std::string& reason, const std::string& to_them);
  void forget_old();
  void add_listener(const members_listener& who);
  /// A listener, or a node, is gone.
  void down(const caf::down_msg& m);
  /// Rows of an operator's view: links, nodes without, those that were refused.
  void show(std::vector<node_view>& rows) const;

 private:
  /// A node without a link.
  struct unreachable_node {
    node_info info;
    bool refused = false;
    std::string reason;
    std::int64_t since_ns = 0;
    cluster_context::time_point touched;
  };

  /// The link of that id, if it is the present sender that it leads to.
  cluster_link* link_of_sender(std::uint64_t id);
  void note_refusal(const node_info& info, const std::string& reason);
  /// Ends a link; its inbound worker goes, and with it all that came through.
  void end(cluster_link& ended, const std::string& reason);
  link_heartbeat heartbeat_of(std::uint64_t id) const { return {id, c_.load, neighbours()}; }
  void send_heartbeat(cluster_link& l);
  void hear(cluster_link& l, link_heartbeat& heartbeat);

  cluster_context& c_;
  address_book& book_;
  std::map<std::string, cluster_link> links_;  // by name
  std::map<std::string, unreachable_node> unreachable_;
  std::map<std::pair<std::string, std::string>, unreachable_node> refusals_;  // by name and address
  std::map<caf::actor_addr, members_listener> listeners_;
};

}  // namespace kiln::actors
