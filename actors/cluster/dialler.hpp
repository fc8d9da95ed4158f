// Whom to dial: the addresses seeds stand for, those other nodes speak of, when to try again, and our own
// hello. Used on the cluster's actor only; what blocks runs on its pool.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "actors/cluster/membership.hpp"

namespace kiln::actors {

class dialler final : public address_book {
 public:
  /// Both must outlive this, but `members` is not used before the first message.
  dialler(cluster_context& cluster, membership& members);
  ~dialler();

  bool is_greeting(const std::string& address) const override;
  void learn(const std::vector<std::string>& addresses) override;
  void opened(const node_info& node) override;
  void ended(const node_info& node) override;

  /// Looks up and dials whatever it is time for.
  void go_on();
  void forget_old();
  /// Rows of an operator's view: addresses without a node.
  void show(std::vector<node_view>& rows) const;

 private:
  using time_point = cluster_context::time_point;

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

    void answered_by(const std::string& who);
  };

  struct seed_state {
    time_point next;
    bool resolving = false;
    std::string reason;  // of its failure
    std::set<std::string> addresses;
  };

  /// Null when it is not to be dialled; `wanted`: also when there are very many.
  route* add(const std::string& address, bool wanted);
  bool is_linked(const route& r) const;
  void resolve();
  void resolved(const std::string& seed, result<std::vector<std::string>> found);
  void dial();
  void failed(const std::string& address, const error& e);
  void greet(const std::string& address, const node_actor& handle);
  /// Our hello was answered; false when no link comes of it.
  bool answered(const std::string& address, std::uint64_t id, const node_actor& handle,
                const inbound_worker_impl& our_worker, link_hello& hello,
                const peer_worker_actor& their_worker);

  cluster_context& c_;
  membership& members_;
  std::mt19937_64 random_;               // link ids
  std::map<std::string, route> routes_;  // by address
  std::map<std::string, seed_state> seeds_;
  std::map<std::uint64_t, inbound_worker_impl> greetings_;  // workers of hellos that are not answered yet
};

}  // namespace kiln::actors
