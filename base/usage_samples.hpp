// Looks at the use of resources, each a JSON object: kept few by forgetting every second one and looking half
// as often. And what the whole machine uses. Source: BuildKit executor/resources.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/json_text.hpp"

namespace kiln {

class usage_samples {
 public:
  usage_samples(std::chrono::milliseconds interval, std::size_t samples_max)
      : interval_(interval), samples_max_(samples_max) {}

  /// How long to wait before the next look.
  std::chrono::milliseconds interval() const { return interval_; }
  void add(nlohmann::ordered_json sample);
  const nlohmann::ordered_json& all() const { return samples_; }

 private:
  std::chrono::milliseconds interval_;
  std::size_t samples_max_;
  nlohmann::ordered_json samples_ = nlohmann::ordered_json::array();
};

/// A file of the kernel's; empty when it cannot be read.
std::string kernel_text(const std::string& path);
/// "name value" lines.
std::map<std::string, std::uint64_t, std::less<>> kernel_values(const std::string& path);
/// A pressure file: {"some": {avg10 …}, "full": …}; null where the kernel keeps none.
nlohmann::ordered_json kernel_pressure(const std::string& path);

/// Seconds that processors have spent so far: user, nice, system, ….
std::map<std::string, double> processor_times();
nlohmann::ordered_json processor_times_json(const std::map<std::string, double>& seconds);
/// Now, with what else the machine tells of itself; the time is that of the call.
nlohmann::ordered_json machine_usage(std::int64_t now_ns);

}  // namespace kiln
