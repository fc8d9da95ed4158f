#include "actors/cluster/step_scheduler.hpp"

#include <algorithm>

#include "configs/placing.hpp"
#include "messages/filter.hpp"
#include "messages/located_id.hpp"

namespace kiln::actors {

namespace limits = configs::placing;

int step_scheduler::node::free() const {
  // The load it reported may not know yet what it was given, and knows what others gave it.
  return info.slots - std::max(static_cast<int>(given.size()), load.running + load.waiting);
}

namespace {

/// Each of the filters is enough: each must have it.
void constrain(work_item& item, const std::string& filter) {
  if (item.constraints.empty()) item.constraints.emplace_back();
  for (auto& c : item.constraints) {
    if (!c.empty()) c += ',';
    c += filter;
  }
}

}  // namespace

void keep_on(work_item& item, const std::string& worker_id) { constrain(item, "id==" + worker_id); }

void require_entitlements(work_item& item, const pb::Op& op) {
  auto require = [&](std::string_view name) {
    std::string filter("labels.");
    filter.append(entitlements_label).append("~=\"").append(name).append("\"");
    constrain(item, filter);
  };
  if (op.exec().network() == pb::HOST) require("network.host");
  if (op.exec().security() == pb::INSECURE) require("security.insecure");
}

step_scheduler::step_scheduler(std::string here)
    : here_(std::move(here)), typical_(limits::typical_at_first) {}

void step_scheduler::put_node(const node_info& info) { nodes_[info.name].info = info; }

void step_scheduler::set_load(const std::string& name, const node_load& load) {
  if (auto found = nodes_.find(name); found != nodes_.end()) found->second.load = load;
}

std::vector<std::uint64_t> step_scheduler::drop_node(const std::string& name) {
  auto found = nodes_.find(name);
  if (found == nodes_.end()) return {};
  std::vector<std::uint64_t> lost(found->second.given.begin(), found->second.given.end());
  for (auto id : lost) running_.erase(id);
  nodes_.erase(found);
  for (auto& [ref, p] : places_) p.nodes.erase(name);
  return lost;
}

void step_scheduler::learn(const std::string& ref, std::int64_t bytes, const std::string& node) {
  if (ref.empty()) return;
  auto [at, fresh] = places_.try_emplace(ref);
  if (fresh) {
    recent_.push_front(ref);
    at->second.used = recent_.begin();
  } else {
    recent_.splice(recent_.begin(), recent_, at->second.used);
  }
  if (bytes >= 0) at->second.bytes = bytes;
  at->second.nodes.insert(node);
  while (places_.size() > limits::places_max) {
    places_.erase(recent_.back());
    recent_.pop_back();
  }
}

bool step_scheduler::may_run(const node& n, const work_item& item) const {
  if (n.info.role == node_role::coordinator || n.load.draining) return false;
  const auto& record = n.info.record;
  if (record.platforms_size() > 0 &&
      std::none_of(record.platforms().begin(), record.platforms().end(),
                   [&](const auto& p) { return matches(item.platform, from_proto(p)); }))
    return false;
  if (item.constraints.empty()) return true;
  auto f = filter::parse(item.constraints);
  return f.ok() && f->matches([&](std::span<const std::string> path) -> std::optional<std::string> {
    if (path.size() == 1 && path[0] == "id") return record.id();
    if (path.size() < 2 || path[0] != "labels") return std::nullopt;
    std::string label = path[1];
    for (const auto& part : path.subspan(2)) label += "." + part;
    auto found = record.labels().find(label);
    if (found == record.labels().end()) return std::nullopt;
    return found->second;
  });
}

std::chrono::nanoseconds step_scheduler::transfer_time(const std::string& node, const work_item& item) const {
  std::int64_t missing = 0;
  for (const auto& input : item.inputs) {
    if (input.empty()) continue;
    bool is_cache = input.starts_with("cache:");
    auto found = places_.find(input);
    if (found == places_.end() || found->second.nodes.empty()) {
      // Nobody is known to have it: an own ref lies here, another one at the node it names.
      auto at = located_id::parse(input).node;
      if (!is_cache && (at.empty() ? here_ : at) != node) missing += limits::unknown_input_bytes;
    } else if (!found->second.nodes.contains(node)) {
      missing += found->second.bytes < 0 ? limits::unknown_input_bytes : found->second.bytes;
    }
  }
  // In two steps: bytes × 10⁹ does not fit 64 bits.
  auto per_second = limits::bytes_per_second;
  return std::chrono::seconds(missing / per_second) +
         std::chrono::nanoseconds(missing % per_second * 1'000'000'000 / per_second);
}

std::vector<step_scheduler::candidate> step_scheduler::candidates(const work_item& item) const {
  std::vector<candidate> able, avoided;
  for (const auto& [name, n] : nodes_)
    if (may_run(n, item))
      (item.avoid.contains(name) ? avoided : able).push_back({name, transfer_time(name, item), n.free()});
  auto& out = able.empty() ? avoided : able;
  std::sort(out.begin(), out.end(), [&](const candidate& a, const candidate& b) {
    return std::tuple(a.transfer, a.name != here_, -a.free, a.name) <
           std::tuple(b.transfer, b.name != here_, -b.free, b.name);
  });
  return std::move(out);
}

status step_scheduler::submit(work_item item, work_time now) {
  if (candidates(item).empty())
    return make_error(errc::failed_precondition,
                      "no node of the cluster runs steps for " + format_platform(item.platform) +
                          (item.constraints.empty() ? "" : " under the given constraints"));
  auto build = item.build;
  queues_[build].push_back({std::move(item), now});
  return {};
}

void step_scheduler::finish(std::uint64_t id, work_time now) {
  if (auto found = running_.find(id); found != running_.end()) {
    if (auto n = nodes_.find(found->second.node); n != nodes_.end() && n->second.given.erase(id) > 0) {
      typical_ += (now - found->second.since - typical_) / limits::typical_weight;
      // Until the next heartbeat, its load is known to be one less.
      n->second.load.running = std::max(0, n->second.load.running - 1);
    }
    running_.erase(found);
    return;
  }
  for (auto at = queues_.begin(); at != queues_.end(); ++at) {
    if (std::erase_if(at->second, [&](const auto& w) { return w.item.id == id; }) == 0) continue;
    if (at->second.empty()) queues_.erase(at);
    return;
  }
}

std::optional<std::string> step_scheduler::choose(const waiting_item& w, work_time now) {
  auto able = candidates(w.item);
  if (able.empty()) return std::nullopt;  // its nodes have gone meanwhile; it waits for others
  if (!w.item.takes_credit) return able.front().name;
  auto best = able.front().transfer;
  for (const auto& c : able) {
    if (c.free <= 0 || c.transfer - best > limits::moving_share * typical_) continue;
    auto due = w.since;
    if (c.transfer > best) due += limits::patience + c.transfer - best;
    if (due <= now) return c.name;
    if (!wake_at_ || due < *wake_at_) wake_at_ = due;
  }
  return std::nullopt;
}

void step_scheduler::give(const work_item& item, const std::string& name, work_time now) {
  auto& n = nodes_.at(name);
  if (item.takes_credit) n.given.insert(item.id);
  running_[item.id] = {name, now};
  for (const auto& input : item.inputs)
    if (input.starts_with("cache:")) learn(input, limits::cache_mount_bytes, name);
}

std::vector<assignment> step_scheduler::assign(work_time now) {
  std::vector<assignment> out;
  wake_at_.reset();
  for (bool more = true; more;) {
    more = false;
    // One of each build in turn, beginning after the build that was served last.
    std::vector<std::string> builds;
    for (const auto& [build, queue] : queues_) builds.push_back(build);
    auto next = std::upper_bound(builds.begin(), builds.end(), last_build_);
    std::rotate(builds.begin(), next, builds.end());
    for (const auto& build : builds) {
      auto& queue = queues_.at(build);
      for (auto at = queue.begin(); at != queue.end(); ++at) {
        auto node = choose(*at, now);
        if (!node) continue;
        give(at->item, *node, now);
        out.push_back({at->item.id, *node});
        queue.erase(at);
        last_build_ = build;
        more = true;
        break;
      }
      if (queue.empty()) queues_.erase(build);
    }
  }
  return out;
}

}  // namespace kiln::actors
