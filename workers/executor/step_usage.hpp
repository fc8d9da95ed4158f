// What a step used, from its own control group, in hierarchies of either version: processor time, memory,
// input and output, processes; and whether the kernel killed any of it for memory. The step's group is one of
// ours around the one that the runtime makes and removes, so that its counters are there after the end.
// Source: BuildKit executor/resources, executor/runcexecutor (detectOOM); the kernel's cgroup-v1 and
// cgroup-v2.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json_text.hpp"
#include "base/unique_fd.hpp"
#include "base/usage_samples.hpp"

namespace kiln::workers {

/// The name of the runtime's group in that of the step.
inline constexpr const char* runtime_group = "step";

/// A group in every hierarchy there is.
struct group_places {
  std::string unified;                                          // of version 2; empty: none
  std::map<std::string, std::string, std::less<>> controllers;  // of version 1, by controller
};
/// `group`: "/buildkit/x". `hierarchies`: mount points.
group_places places_of(const std::string& group, const std::vector<std::filesystem::path>& hierarchies);

/// One look at what a group has used; null when there is no such group.
nlohmann::ordered_json group_usage(const group_places& group, std::int64_t now_ns);

/// One run of a step. Used on the thread that runs it.
class step_usage {
 public:
  explicit step_usage(const std::string& group);

  /// Before the runtime makes its group: whoever is killed in it is noticed. Not told anybody when that
  /// fails.
  void watch_memory();
  /// From time to time while it runs; how long until the next time.
  std::chrono::milliseconds look();
  /// After its end: all looks and the last, as provenance has them; empty where nothing is told.
  std::string finish();
  /// After its end: whether the kernel killed something in it because its memory was used up. Blocking, for a
  /// moment.
  bool out_of_memory();

 private:
  std::string group_;
  group_places places_;
  usage_samples samples_;
  std::map<std::string, double> machine_before_;
  unique_fd notices_;  // version 1: one for each such event, and one when the runtime's group has gone
};

}  // namespace kiln::workers
