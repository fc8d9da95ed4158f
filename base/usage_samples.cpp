#include "base/usage_samples.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <sstream>

#include <unistd.h>

#include "base/files.hpp"
#include "base/time_text.hpp"

namespace kiln {

namespace {

using json = nlohmann::ordered_json;

constexpr std::array processor_states = {"user", "nice",    "system", "idle",  "iowait",
                                         "irq",  "softirq", "steal",  "guest", "guestNice"};

constexpr std::int64_t kernel_file_bytes_max = 1 << 20;

/// The first number of each line, by the word before it, which may end in a colon.
std::map<std::string, std::uint64_t> first_numbers(const std::string& path) {
  std::map<std::string, std::uint64_t> out;
  std::istringstream lines(kernel_text(path));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string name;
    if (std::uint64_t value = 0; words >> name >> value) out[name.substr(0, name.find(':'))] = value;
  }
  return out;
}

/// However often samples are thinned out.
constexpr std::chrono::hours longest_interval{24};

}  // namespace

void usage_samples::add(json sample) {
  samples_.push_back(std::move(sample));
  if (samples_.size() <= samples_max_) return;
  auto all = std::exchange(samples_, json::array());
  for (std::size_t i = 0; i < all.size(); i += 2) samples_.push_back(std::move(all[i]));
  interval_ = std::min<std::chrono::milliseconds>(2 * interval_, longest_interval);
}

std::string kernel_text(const std::string& path) {
  auto text = read_file(path, kernel_file_bytes_max);
  return text.ok() ? *std::move(text) : std::string();
}

std::map<std::string, std::uint64_t, std::less<>> kernel_values(const std::string& path) {
  std::map<std::string, std::uint64_t, std::less<>> out;
  std::istringstream lines(kernel_text(path));
  std::string name;
  for (std::uint64_t value = 0; lines >> name >> value;) out[name] = value;
  return out;
}

json kernel_pressure(const std::string& path) {
  json out;
  std::istringstream lines(kernel_text(path));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string whose, word;
    words >> whose;
    if (whose != "some" && whose != "full") continue;
    auto& values = out[whose] = json::object();
    while (words >> word) {
      auto equals = word.find('=');
      if (equals == std::string::npos) continue;
      auto name = word.substr(0, equals);
      std::istringstream number(word.substr(equals + 1));
      if (name == "total") {
        std::uint64_t total = 0;
        if (number >> total) values[name] = total;
      } else if (double average = 0; number >> average) {
        values[name] = average;
      }
    }
  }
  return out;
}

std::map<std::string, double> processor_times() {
  std::map<std::string, double> out;
  std::istringstream words(kernel_text("/proc/stat"));
  std::string cpu;
  words >> cpu;
  const auto ticks = static_cast<double>(::sysconf(_SC_CLK_TCK));
  for (const char* state : processor_states)
    if (double value = 0; words >> value) out[state] = value / ticks;
  return out;
}

json processor_times_json(const std::map<std::string, double>& seconds) {
  json out = json::object();
  for (const char* state : processor_states)
    if (auto found = seconds.find(state); found != seconds.end())
      out[state] = std::round(found->second * 1000) / 1000;
  return out;
}

json machine_usage(std::int64_t now_ns) {
  json out{{"timestamp", format_rfc3339(now_ns)}, {"cpuStat", processor_times_json(processor_times())}};
  auto counts = first_numbers("/proc/stat");
  out["procStat"] = {{"contextSwitches", counts["ctxt"]},
                     {"processCreated", counts["processes"]},
                     {"processesRunning", counts["procs_running"]}};
  auto kilobytes = first_numbers("/proc/meminfo");
  json& stat = out["memoryStat"] = json::object();
  // In kB, as /proc/meminfo and upstream have it.
  for (auto [name, from] : {std::pair{"total", "MemTotal"},
                            {"free", "MemFree"},
                            {"available", "MemAvailable"},
                            {"buffers", "Buffers"},
                            {"cached", "Cached"},
                            {"active", "Active"},
                            {"inactive", "Inactive"},
                            {"swap", "SwapTotal"},
                            {"dirty", "Dirty"},
                            {"writeback", "Writeback"},
                            {"slab", "Slab"}})
    if (auto found = kilobytes.find(from); found != kilobytes.end()) stat[name] = found->second;
  for (auto [name, file] :
       {std::pair{"cpuPressure", "cpu"}, {"memoryPressure", "memory"}, {"ioPressure", "io"}})
    if (auto pressure = kernel_pressure(std::string("/proc/pressure/") + file); !pressure.is_null())
      out[name] = std::move(pressure);
  return out;
}

}  // namespace kiln
