// What may come over a connection between nodes before CAF's middleman sees it. CAF trusts its peers: one
// message of an odd category, nested deep enough, or sent to an actor that the sender should not know ends
// the process or speaks in another's name. So each connection is read as BASP here first, and whatever no
// honest node sends ends it:
//
//  - a handshake first, once, by a node whose name on the wire no other certificate's connections use;
//  - messages of the types that nodes say to each other, to actors that this node told the other of, and only
//  what
//    that kind of actor may be asked: what its interface has (messages/actor_cluster.hpp, peer_worker_actor);
//    answers only to what was asked;
//  - actors named in them are the sender's own, or this node's that it was told of;
//  - nothing routed for others, nothing sent to CAF's own actors, no links, no exits, no streams.
//
// A state machine over bytes: knows no sockets. Of one thread, but for names_of().
// Source: CAF 0.17.6, io/basp/instance.cpp, header.hpp, remote_message_handler.hpp; message_id.hpp.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "node/basp_walk.hpp"
#include "node/relay_gate.hpp"
#include "base/result.hpp"
#include "configs/cluster.hpp"
#include "configs/node_messages.hpp"

namespace kiln::node {

struct basp_limits {
  std::size_t message_bytes_max = configs::cluster::message_bytes_max;
  std::size_t elements_max = configs::cluster::message_elements_max;
  int depth_max = configs::cluster::message_depth_max;
  std::size_t actors_max = configs::cluster::peer_actors_max;
  std::size_t ended_kept_max = configs::cluster::ended_actors_kept_max;
  std::size_t held_bytes_max = configs::cluster::held_bytes_max;
};

/// What one other node and this one know of each other, over all connections between them.
struct basp_peer {
  struct own_actor {
    std::set<actor_kind> kinds;
    std::set<std::uint64_t> asked;  // numbers of its requests that are not answered
  };
  certificate_identity identity;
  std::map<std::uint64_t, own_actor> told;   // of this node, that the other was told of
  std::deque<std::uint64_t> ended;           // of those; the oldest are forgotten
  std::unordered_set<std::uint64_t> theirs;  // that the other has told of, and not of their end
};

/// The nodes that are connected, by the bytes that name them on the wire.
class basp_peers {
 public:
  /// `own`: the certificate of this node.
  explicit basp_peers(certificate_identity own, basp_limits limits = {})
      : own_(std::move(own)), limits_(limits) {}

  const basp_limits& limits() const { return limits_; }
  /// One more connection of that node, for as long as the result lives; permission_denied when another
  /// certificate's connections use that name. `self`: how this node is named.
  result<std::shared_ptr<basp_peer>> enter(const std::string& node, const certificate_identity& identity,
                                           const std::string& self);
  /// Bytes of messages that have not come whole, of all gates: so many more. False when those are too many.
  bool hold(std::size_t bytes) { return (held_ += bytes) <= limits_.held_bytes_max; }
  void let_go(std::size_t bytes) { held_ -= bytes; }
  /// The names that the certificate of a connected node is for; nothing for others. Thread-safe.
  std::vector<std::string> names_of(const caf::node_id& node) const;

 private:
  const certificate_identity own_;
  const basp_limits limits_;
  std::size_t held_ = 0;
  mutable std::mutex mutex_;
  std::map<std::string, std::weak_ptr<basp_peer>> peers_;
};

class basp_gate final : public relay_gate {
 public:
  /// `dialled`: by this node.
  basp_gate(std::shared_ptr<basp_peers> peers, bool dialled, certificate_identity other)
      : peers_(std::move(peers)), dialled_(dialled), other_(std::move(other)) {}
  ~basp_gate() override { peers_->let_go(in_.bytes.size()); }
  basp_gate(const basp_gate&) = delete;
  basp_gate& operator=(const basp_gate&) = delete;

  status take_in(std::string_view bytes, std::string& pass_on) override;
  void take_out(std::string_view bytes) override;

 private:
  struct header {
    std::uint8_t operation = 0, padding1 = 0, padding2 = 0, flags = 0;
    std::uint32_t payload_bytes = 0;
    std::uint64_t data = 0, source = 0, dest = 0;
  };
  /// Frames of one direction, as they come in pieces.
  struct frames {
    std::string bytes;  // of the present one
    bool has_header = false;
    header head;
    std::size_t left_out = 0;  // of a payload that is not looked at
  };
  enum class verdict { pass, drop };

  static header read_header(std::string_view bytes);
  basp_walk walk(std::string_view payload) const;
  static error refuse(std::string what);

  status check_header(const header& h) const;
  result<verdict> check(const header& h, std::string_view payload);
  result<verdict> check_handshake(const header& h, std::string_view payload);
  result<verdict> check_message(const header& h, std::string_view payload);
  result<verdict> check_news(const header& h, std::string_view payload);
  status knows(std::uint64_t actor);
  status check_handles(const basp_walk& walked);

  void note(const header& h, std::string_view payload);
  void note_message(const header& h, std::string_view payload);
  void tell(std::uint64_t actor, actor_kind kind);
  void note_end(std::uint64_t actor);

  const std::shared_ptr<basp_peers> peers_;
  const bool dialled_;
  const certificate_identity other_;
  frames in_, out_;
  std::string self_;                                        // how this node is named on the wire
  std::string node_;                                        // how the other is
  std::shared_ptr<basp_peer> peer_;                         // null before its handshake
  std::vector<std::pair<std::uint64_t, actor_kind>> told_;  // before that
  int handshakes_ = 0;
};

}  // namespace kiln::node
