// Which node runs which step. Pure bookkeeping: who has which ref, who has credit left, who waits.
//
// Delay scheduling: a step goes to the node that has most of its inputs as soon as that node has a credit;
// to another one only after it has waited as long as moving its inputs there would take, and only when moving
// takes no longer than steps mostly run. So short steps stay where they are and work moves when that pays.
// Builds take turns; within a build order of arrival.
//
// A step that no node may run waits for one to join: long while nobody runs steps at all, else until nodes
// have neither come nor gone for a while. What executes then runs where its platform is not offered, as on a
// lone node, which tries; the rest is given up. Knows nothing of actors, messages or clocks. Not thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <list>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.hpp"
#include "messages/cluster_types.hpp"
#include "messages/platform.hpp"
#include "ops.pb.h"
#include "solver/devices.hpp"

namespace kiln::actors {

using work_time = std::chrono::steady_clock::time_point;

struct work_item {
  std::uint64_t id = 0;
  std::string build;                // whose turn it takes
  std::vector<std::string> inputs;  // refs, and "cache:…" for what else it likes to find
  bool executes = true;             // takes a credit and its platform; else placed at once, whatever the load
  kiln::platform platform;
  std::vector<std::string> constraints = {};  // filters on a worker's record
  std::set<std::string> avoid = {};           // nodes that failed it; used again when nobody else is left
  pb::Op privileges = {};                     // its network, security and devices; see privileges_of()
};

/// Label of workers: which entitlements their node's configuration grants, separated by commas.
inline constexpr const char* entitlements_label = "kiln.entitlements";
/// As much of an op as tells where it is allowed to run.
pb::Op privileges_of(const pb::Op& op);

struct assignment {
  std::uint64_t id = 0;
  std::string node;
};

/// What is to be done now with steps that wait.
struct placing {
  std::vector<assignment> starts;
  std::vector<std::uint64_t> lonely;    // wait for a node that may run them, since now
  std::vector<std::uint64_t> given_up;  // have waited for one long enough, and wait no more
};

class step_scheduler {
 public:
  /// `here` is preferred when all else is equal.
  explicit step_scheduler(std::string here);

  void put_node(const node_info& info, work_time now);
  /// What a node's worker is, as it says now.
  void set_record(const std::string& node, const moby::buildkit::v1::types::WorkerRecord& record);
  void set_load(const std::string& node, const node_load& load, work_time now);
  /// Forgets the node and what lay there; the ids that were running on it.
  std::vector<std::uint64_t> drop_node(const std::string& node, work_time now);
  bool has_node(const std::string& node) const { return nodes_.contains(node); }
  /// The nodes that run steps.
  std::vector<node_info> runners() const;

  /// A ref lies (also) there; bytes < 0: unknown.
  void learn(const std::string& ref, std::int64_t bytes, const std::string& node);

  void submit(work_item item, work_time now);
  /// It is done, or no longer wanted.
  void finish(std::uint64_t id, work_time now);
  placing assign(work_time now);
  /// When assign() may find more although nothing else has happened.
  std::optional<work_time> wake_at() const { return wake_at_; }

 private:
  struct node {
    node_info info;
    node_load load;
    std::set<std::uint64_t> given;
    // Of its record.
    std::vector<std::string> entitlements;
    std::vector<solver::device> devices;
    int free() const;
    bool runs_steps() const { return info.role != node_role::coordinator && !load.draining; }
    void set_record(const moby::buildkit::v1::types::WorkerRecord& record);
  };
  struct place {
    std::int64_t bytes = -1;
    std::set<std::string> nodes;
    std::list<std::string>::iterator used;
  };
  struct waiting_item {
    work_item item;
    work_time since;
    bool lonely = false;
  };
  struct candidate {
    std::string name;
    std::chrono::nanoseconds transfer{0};
    int free = 0;
    int unfitness = 0;        // 0: runs its platform and has not failed it
    std::size_t devices = 0;  // how many of those it asks for are there
  };

  /// Nothing when the node must not run it.
  std::optional<candidate> rate(const std::string& name, const node& n, const work_item& item) const;
  std::chrono::nanoseconds transfer_time(const std::string& node, const work_item& item) const;
  /// Nodes that may run it, best first: those that run its platform; others if `any_platform` and there is
  /// none.
  std::vector<candidate> candidates(const work_item& item, bool any_platform) const;
  /// Until when a step waits for a node that may run it.
  work_time gives_up_at(const waiting_item& w) const;
  std::optional<std::string> choose(waiting_item& w, work_time now, placing& out);
  void wake(work_time at) {
    if (!wake_at_ || at < *wake_at_) wake_at_ = at;
  }
  void give(const work_item& item, const std::string& node, work_time now);

  std::string here_;
  std::map<std::string, node> nodes_;
  work_time changed_{};  // when a node came, went or began to drain
  std::unordered_map<std::string, place> places_;
  std::list<std::string> recent_;                           // refs of places_, newest first
  std::map<std::string, std::deque<waiting_item>> queues_;  // by build
  std::string last_build_;
  struct run {
    std::string node;
    work_time since;
  };
  std::unordered_map<std::uint64_t, run> running_;
  std::chrono::nanoseconds typical_;  // how long a step occupies its node, of late
  std::optional<work_time> wake_at_;
};

}  // namespace kiln::actors
