#include "actors/cluster/step_scheduler.hpp"

#include <algorithm>

#include "actors/worker/worker_devices.hpp"
#include "actors/worker_fields.hpp"
#include "base/text.hpp"
#include "configs/placing.hpp"
#include "messages/filter.hpp"
#include "messages/located_id.hpp"
#include "solver/step_entitlements.hpp"

namespace kiln::actors {

namespace limits = configs::placing;

namespace {

/// A node that does not offer a step's platform is less fit than any that has failed it.
constexpr int foreign = 2;

}  // namespace

int step_scheduler::node::free() const {
  // The load it reported may not know yet what it was given, and knows what others gave it.
  return info.slots - std::max(static_cast<int>(given.size()), load.running + load.waiting);
}

void step_scheduler::node::set_record(const moby::buildkit::v1::types::WorkerRecord& record) {
  info.record = record;
  entitlements.clear();
  if (auto label = record.labels().find(entitlements_label); label != record.labels().end())
    entitlements = split(label->second, ',');
  devices = devices_of(record);
}

pb::Op privileges_of(const pb::Op& op) {
  pb::Op out;
  if (!op.has_exec()) return out;
  out.mutable_exec()->set_network(op.exec().network());
  out.mutable_exec()->set_security(op.exec().security());
  *out.mutable_exec()->mutable_cdidevices() = op.exec().cdidevices();
  return out;
}

step_scheduler::step_scheduler(std::string here)
    : here_(std::move(here)), typical_(limits::typical_at_first) {}

void step_scheduler::put_node(const node_info& info, work_time now) {
  auto& n = nodes_[info.name];
  n.info = info;
  n.set_record(info.record);
  changed_ = now;
}

void step_scheduler::set_record(const std::string& name,
                                const moby::buildkit::v1::types::WorkerRecord& record) {
  if (auto found = nodes_.find(name); found != nodes_.end()) found->second.set_record(record);
}

void step_scheduler::set_load(const std::string& name, const node_load& load, work_time now) {
  auto found = nodes_.find(name);
  if (found == nodes_.end()) return;
  if (found->second.load.draining != load.draining) changed_ = now;
  found->second.load = load;
}

std::vector<std::uint64_t> step_scheduler::drop_node(const std::string& name, work_time now) {
  auto found = nodes_.find(name);
  if (found == nodes_.end()) return {};
  std::vector<std::uint64_t> lost(found->second.given.begin(), found->second.given.end());
  for (auto id : lost) running_.erase(id);
  nodes_.erase(found);
  changed_ = now;
  for (auto& [ref, p] : places_) p.nodes.erase(name);
  return lost;
}

std::vector<node_info> step_scheduler::runners() const {
  std::vector<node_info> out;
  for (const auto& [name, n] : nodes_)
    if (n.runs_steps()) out.push_back(n.info);
  return out;
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

namespace {

bool runs_platform(const moby::buildkit::v1::types::WorkerRecord& record, const platform& wanted) {
  return record.platforms_size() == 0 ||
         std::any_of(record.platforms().begin(), record.platforms().end(),
                     [&](const auto& p) { return matches(wanted, from_proto(p)); });
}

bool meets(const moby::buildkit::v1::types::WorkerRecord& record,
           const std::vector<std::string>& constraints) {
  if (constraints.empty()) return true;
  auto f = filter::parse(constraints);
  return f.ok() && f->matches(fields_of(record));
}

}  // namespace

std::optional<step_scheduler::candidate> step_scheduler::rate(const std::string& name, const node& n,
                                                              const work_item& item) const {
  if (!n.runs_steps() || !meets(n.info.record, item.constraints)) return std::nullopt;
  if (!solver::admit_step(item.privileges, n.entitlements, n.devices).ok()) return std::nullopt;
  const auto& wanted = item.privileges.exec().cdidevices();
  auto found = solver::find_devices(n.devices, std::vector<pb::CDIDevice>(wanted.begin(), wanted.end()));
  if (!found.ok()) return std::nullopt;
  int unfitness = (item.executes && !runs_platform(n.info.record, item.platform) ? foreign : 0) +
                  (item.avoid.contains(name) ? 1 : 0);
  return candidate{name, transfer_time(name, item), n.free(), unfitness, found->size()};
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

std::vector<step_scheduler::candidate> step_scheduler::candidates(const work_item& item,
                                                                  bool any_platform) const {
  std::vector<candidate> out;
  for (const auto& [name, n] : nodes_)
    if (auto c = rate(name, n, item); c && (any_platform || c->unfitness < foreign))
      out.push_back(*std::move(c));
  auto rank = [](const candidate& c) {
    return std::pair(c.unfitness, -static_cast<std::int64_t>(c.devices));
  };
  auto best = std::min_element(out.begin(), out.end(),
                               [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  if (best == out.end()) return out;
  std::erase_if(out, [&, least = rank(*best)](const auto& c) { return rank(c) != least; });
  std::sort(out.begin(), out.end(), [&](const candidate& a, const candidate& b) {
    return std::tuple(a.transfer, a.name != here_, -a.free, a.name) <
           std::tuple(b.transfer, b.name != here_, -b.free, b.name);
  });
  return out;
}

void step_scheduler::submit(work_item item, work_time now) {
  auto build = item.build;
  queues_[build].push_back({std::move(item), now});
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

work_time step_scheduler::gives_up_at(const waiting_item& w) const {
  bool anybody =
      std::any_of(nodes_.begin(), nodes_.end(), [](const auto& entry) { return entry.second.runs_steps(); });
  if (!anybody) return std::max(w.since, changed_) + limits::join_time;
  return std::max(w.since, changed_ + limits::settle_time);
}

std::optional<std::string> step_scheduler::choose(waiting_item& w, work_time now, placing& out) {
  auto able = candidates(w.item, false);
  if (able.empty()) {
    auto until = gives_up_at(w);
    if (until <= now) able = candidates(w.item, true);
    if (able.empty() && until <= now) {
      out.given_up.push_back(w.item.id);
      return std::nullopt;
    }
    if (able.empty()) {
      if (!std::exchange(w.lonely, true)) out.lonely.push_back(w.item.id);
      wake(until);
      return std::nullopt;
    }
  }
  if (!w.item.executes) return able.front().name;
  auto best = able.front().transfer;
  for (const auto& c : able) {
    if (c.free <= 0 || c.transfer - best > limits::moving_share * typical_) continue;
    auto due = w.since;
    if (c.transfer > best) due += limits::patience + c.transfer - best;
    if (due <= now) return c.name;
    wake(due);
  }
  return std::nullopt;
}

void step_scheduler::give(const work_item& item, const std::string& name, work_time now) {
  auto& n = nodes_.at(name);
  if (item.executes) n.given.insert(item.id);
  running_[item.id] = {name, now};
  for (const auto& input : item.inputs)
    if (input.starts_with("cache:")) learn(input, limits::cache_mount_bytes, name);
}

placing step_scheduler::assign(work_time now) {
  placing out;
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
      for (auto at = queue.begin(); at != queue.end();) {
        auto given_up = out.given_up.size();
        auto node = choose(*at, now, out);
        if (!node) {
          at = out.given_up.size() > given_up ? queue.erase(at) : std::next(at);
          continue;
        }
        give(at->item, *node, now);
        out.starts.push_back({at->item.id, *node});
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
