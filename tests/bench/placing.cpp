// How well step_scheduler spreads work, and what it costs: the real step_scheduler code in a discrete-event
// simulation of 1, 2, 4 and 8 nodes, with costs as measured on real builds (docs/benchmarks.md). Prints the
// Markdown tables.
//
// Efficiency is the lower bound of the makespan (all work on all slots, or the longest path, whichever is
// longer) divided by the makespan that came out, moving of inputs included.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <map>
#include <queue>
#include <random>
#include <vector>

#include "actors/cluster/step_scheduler.hpp"
#include "configs/placing.hpp"

using namespace kiln;
using namespace kiln::actors;
using clock_type = std::chrono::steady_clock;

namespace {

// Measured: a RUN's overhead, one control round trip between nodes, and what moving bytes takes.
constexpr double run_overhead_s = 0.02;
constexpr double round_trip_s = 0.002;
constexpr double bytes_per_second = 90e6;
constexpr int slots = 4;

struct vertex {
  std::vector<int> inputs;
  double seconds = 0;
  std::int64_t bytes = 0;
  int missing = 0;
  std::vector<int> users;
  std::string ref;
};

/// Stages as Dockerfiles have them: chains of steps that start at a base image, copying from each other now
/// and then.
std::vector<vertex> invent(int count, bool short_steps, std::mt19937& random) {
  std::vector<vertex> out(static_cast<std::size_t>(count));
  std::uniform_real_distribution<double> unit(0, 1);
  for (int i = 0; i < count; ++i) {
    auto& v = out[static_cast<std::size_t>(i)];
    bool starts_stage = i < 4 || unit(random) < 0.25;
    if (!starts_stage) v.inputs.push_back(std::max(0, i - 1 - static_cast<int>(random() % 12)));
    if (!starts_stage && unit(random) < 0.2)
      v.inputs.push_back(static_cast<int>(random() % static_cast<unsigned>(i)));
    v.seconds = run_overhead_s + (short_steps ? 0.03 : 4.0) * unit(random) * unit(random);
    v.bytes = static_cast<std::int64_t>(40e6 * unit(random) * unit(random));
    v.missing = static_cast<int>(v.inputs.size());
    for (int input : v.inputs) out[static_cast<std::size_t>(input)].users.push_back(i);
  }
  return out;
}

struct outcome {
  double makespan_s = 0;
  double bound_s = 0;
  double cost_us = 0;  // of placing one vertex, real time
  double moved_share = 0;
};

outcome simulate(std::vector<vertex> graph, int nodes) {
  step_scheduler p("n0");
  std::vector<std::string> names;
  for (int i = 0; i < nodes; ++i) {
    node_info info;
    info.name = "n" + std::to_string(i);
    info.slots = slots;
    names.push_back(info.name);
    p.put_node(info);
  }
  using event = std::pair<double, int>;  // time, vertex that ends (-1: wake up)
  std::priority_queue<event, std::vector<event>, std::greater<>> events;
  std::map<std::uint64_t, std::string> where;
  double now = 0, total = 0, longest = 0;
  std::int64_t moved = 0, all = 0;
  clock_type::duration spent{};
  auto at = [](double s) { return work_time(std::chrono::nanoseconds(std::llround(s * 1e9))); };
  auto submit = [&](int i) {
    auto& v = graph[static_cast<std::size_t>(i)];
    work_item item;
    item.id = static_cast<std::uint64_t>(i);
    item.build = "build";
    for (int input : v.inputs) item.inputs.push_back(graph[static_cast<std::size_t>(input)].ref);
    item.platform = host_platform();
    auto begin = clock_type::now();
    if (!p.submit(std::move(item), at(now)).ok()) std::abort();
    spent += clock_type::now() - begin;
  };
  std::map<std::string, std::set<std::string>> has;  // node → refs
  auto assign = [&] {
    auto begin = clock_type::now();
    auto given = p.assign(at(now));
    spent += clock_type::now() - begin;
    for (const auto& a : given) {
      auto& v = graph[a.id];
      double moving = a.node == "n0" ? 0 : round_trip_s;
      for (int input : v.inputs) {
        const auto& from = graph[static_cast<std::size_t>(input)];
        all += from.bytes;
        if (!has[a.node].insert(from.ref).second) continue;
        moving += static_cast<double>(from.bytes) / bytes_per_second;
        moved += from.bytes;
        p.learn(from.ref, from.bytes, a.node);
      }
      where[a.id] = a.node;
      events.emplace(now + moving + v.seconds, static_cast<int>(a.id));
    }
    if (auto wake = p.wake_at())
      events.emplace(std::chrono::duration<double>(wake->time_since_epoch()).count(), -1);
  };
  std::vector<double> path(graph.size(), 0);
  for (std::size_t i = 0; i < graph.size(); ++i) {
    for (int input : graph[i].inputs) path[i] = std::max(path[i], path[static_cast<std::size_t>(input)]);
    path[i] += graph[i].seconds;
    longest = std::max(longest, path[i]);
    total += graph[i].seconds;
  }
  for (std::size_t i = 0; i < graph.size(); ++i)
    if (graph[i].missing == 0) submit(static_cast<int>(i));
  assign();
  std::size_t done = 0;
  while (!events.empty() && done < graph.size()) {
    auto [time, i] = events.top();
    events.pop();
    now = std::max(now, time);
    if (i >= 0) {
      ++done;
      auto& v = graph[static_cast<std::size_t>(i)];
      auto node = where.at(static_cast<std::uint64_t>(i));
      v.ref = (node == "n0" ? "" : node + "!") + "r" + std::to_string(i);
      has[node].insert(v.ref);
      auto begin = clock_type::now();
      p.finish(static_cast<std::uint64_t>(i), at(now));
      p.learn(v.ref, v.bytes, node);
      spent += clock_type::now() - begin;
      for (int user : v.users)
        if (--graph[static_cast<std::size_t>(user)].missing == 0) submit(user);
    }
    assign();
  }
  outcome out;
  out.makespan_s = now;
  out.bound_s = std::max(longest, total / (nodes * slots));
  out.cost_us = std::chrono::duration<double, std::micro>(spent).count() / static_cast<double>(graph.size());
  out.moved_share = all > 0 ? static_cast<double>(moved) / static_cast<double>(all) : 0;
  return out;
}

void table(const char* title, bool short_steps) {
  std::printf("%s (%d slots a node)\n\n", title, slots);
  std::printf(
      "| vertices | nodes | makespan | speed-up | efficiency | input bytes moved | placing one vertex |\n");
  std::printf("|---|---|---|---|---|---|---|\n");
  for (int vertices : {50, 500, 5'000}) {
    double alone = 0;
    for (int nodes : {1, 2, 4, 8}) {
      std::vector<outcome> all;
      for (unsigned seed = 1; seed <= 5; ++seed) {
        std::mt19937 random(seed);
        all.push_back(simulate(invent(vertices, short_steps, random), nodes));
      }
      std::sort(all.begin(), all.end(),
                [](const auto& a, const auto& b) { return a.makespan_s < b.makespan_s; });
      const auto& o = all[2];
      if (nodes == 1) alone = o.makespan_s;
      std::printf("| %d | %d | %.2f s | %.2f | %.0f %% | %.0f %% | %.1f µs |\n", vertices, nodes,
                  o.makespan_s, alone / o.makespan_s, 100 * o.bound_s / o.makespan_s, 100 * o.moved_share,
                  o.cost_us);
    }
  }
  std::printf("\n");
}

}  // namespace

int main() {
  table("Steps of up to 4 s", false);
  table("Steps of up to 50 ms: nothing to gain from moving, nothing to lose", true);
}
