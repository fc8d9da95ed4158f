// Which node runs which step. Pure bookkeeping: who has which ref, who has credit left, who waits.
//
// Delay scheduling: a step goes to the node that has most of its inputs as soon as that node has a credit;
// to another one only after it has waited as long as moving its inputs there would take, and only when moving
// takes no longer than steps mostly run. So short steps stay where they are and work moves when that pays.
// Builds take turns; within a build order of arrival. Knows nothing of actors, messages or clocks. Not
// thread-safe.
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

namespace kiln::actors {

using work_time = std::chrono::steady_clock::time_point;

struct work_item {
  std::uint64_t id = 0;
  std::string build;                // whose turn it takes
  std::vector<std::string> inputs;  // refs, and "cache:…" for what else it likes to find
  bool takes_credit = true;         // false: placed at once, whatever the load
  kiln::platform platform;
  std::vector<std::string> constraints = {};  // filters on a worker's record
  std::set<std::string> avoid = {};           // nodes that failed it; used again when nobody else is left
};

/// Besides what constrains it, the step must run on the worker of that id.
void keep_on(work_item& item, const std::string& worker_id);

/// Label of workers: which entitlements their node's configuration grants, separated by commas.
inline constexpr const char* entitlements_label = "kiln.entitlements";
/// The step must run where what it does beyond the sandbox is allowed.
void require_entitlements(work_item& item, const pb::Op& op);

struct assignment {
  std::uint64_t id = 0;
  std::string node;
};

class step_scheduler {
 public:
  /// `here` is preferred when all else is equal.
  explicit step_scheduler(std::string here);

  void put_node(const node_info& info);
  void set_load(const std::string& node, const node_load& load);
  /// Forgets the node and what lay there; the ids that were running on it.
  std::vector<std::uint64_t> drop_node(const std::string& node);
  bool has_node(const std::string& node) const { return nodes_.contains(node); }

  /// A ref lies (also) there; bytes < 0: unknown.
  void learn(const std::string& ref, std::int64_t bytes, const std::string& node);

  /// failed_precondition when no node there is may ever run it.
  status submit(work_item item, work_time now);
  /// It is done, or no longer wanted.
  void finish(std::uint64_t id, work_time now);
  /// What is to start now, and where.
  std::vector<assignment> assign(work_time now);
  /// When assign() may find more although nothing else has happened.
  std::optional<work_time> wake_at() const { return wake_at_; }

 private:
  struct node {
    node_info info;
    node_load load;
    std::set<std::uint64_t> given;
    int free() const;
  };
  struct place {
    std::int64_t bytes = -1;
    std::set<std::string> nodes;
    std::list<std::string>::iterator used;
  };
  struct waiting_item {
    work_item item;
    work_time since;
  };
  struct candidate {
    std::string name;
    std::chrono::nanoseconds transfer{0};
    int free = 0;
  };

  bool may_run(const node& n, const work_item& item) const;
  std::chrono::nanoseconds transfer_time(const std::string& node, const work_item& item) const;
  /// Nodes that may run it, best first.
  std::vector<candidate> candidates(const work_item& item) const;
  std::optional<std::string> choose(const waiting_item& w, work_time now);
  void give(const work_item& item, const std::string& node, work_time now);

  std::string here_;
  std::map<std::string, node> nodes_;
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
