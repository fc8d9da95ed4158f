#include "workers/executor/step_usage.hpp"

#include <chrono>
#include <sstream>
#include <utility>

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/time_text.hpp"
#include "configs/usage.hpp"
#include "workers/executor/cgroups.hpp"

namespace kiln::workers {

namespace {

namespace fs = std::filesystem;
using object = nlohmann::ordered_json;

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

bool is_there(const std::string& path) { return ::access(path.c_str(), F_OK) == 0; }

std::optional<std::uint64_t> kernel_number(const std::string& path) {
  std::istringstream in(kernel_text(path));
  std::uint64_t value = 0;
  if (in >> value) return value;
  return std::nullopt;
}

using values = std::map<std::string, std::uint64_t, std::less<>>;
using names = std::initializer_list<std::pair<const char*, const char*>>;  // ours, the kernel's

void take(object& out, const values& from, names wanted, std::uint64_t factor = 1) {
  for (auto [name, kernels] : wanted)
    if (auto found = from.find(kernels); found != from.end()) out[name] = found->second * factor;
}

void take_number(object& out, const char* name, const std::string& path) {
  if (auto value = kernel_number(path)) out[name] = *value;
}

void take_pressure(object& out, const std::string& path) {
  if (auto pressure = kernel_pressure(path); !pressure.is_null()) out["pressure"] = std::move(pressure);
}

constexpr std::uint64_t us = 1'000;

object unified_cpu(const std::string& group) {
  object out = object::object();
  auto stat = kernel_values(group + "/cpu.stat");
  take(out, stat, {{"usageNanos", "usage_usec"}, {"userNanos", "user_usec"}, {"systemNanos", "system_usec"}},
       us);
  take(out, stat, {{"nrPeriods", "nr_periods"}, {"nrThrottled", "nr_throttled"}});
  take(out, stat, {{"throttledNanos", "throttled_usec"}}, us);
  take_pressure(out, group + "/cpu.pressure");
  return out;
}

object unified_memory(const std::string& group) {
  object out = object::object();
  take_number(out, "swapBytes", group + "/memory.swap.current");
  take(out, kernel_values(group + "/memory.stat"),
       {{"anon", "anon"},
        {"file", "file"},
        {"kernel", "kernel"},
        {"kernelStack", "kernel_stack"},
        {"pageTables", "pagetables"},
        {"sock", "sock"},
        {"vmalloc", "vmalloc"},
        {"shmem", "shmem"},
        {"fileMapped", "file_mapped"},
        {"fileDirty", "file_dirty"},
        {"fileWriteback", "file_writeback"},
        {"slab", "slab"},
        {"pgscan", "pgscan"},
        {"pgsteal", "pgsteal"},
        {"pgfault", "pgfault"},
        {"pgmajfault", "pgmajfault"}});
  take_number(out, "peak", group + "/memory.peak");
  auto events = kernel_values(group + "/memory.events");
  std::erase_if(events, [](const auto& e) { return e.second == 0; });
  take(out, events,
       {{"lowEvents", "low"},
        {"highEvents", "high"},
        {"maxEvents", "max"},
        {"oomEvents", "oom"},
        {"oomKillEvents", "oom_kill"}});
  take_pressure(out, group + "/memory.pressure");
  return out;
}

void add(object& out, const char* name, std::uint64_t value) {
  out[name] = out.value(name, std::uint64_t{0}) + value;
}

/// Lines "8:0 rbytes=1 wbytes=2 …", one a device.
object unified_io(const std::string& group) {
  static const std::map<std::string, const char*> ours{{"rbytes", "readBytes"},    {"wbytes", "writeBytes"},
                                                       {"dbytes", "discardBytes"}, {"rios", "readIOs"},
                                                       {"wios", "writeIOs"},       {"dios", "discardIOs"}};
  object out = object::object();
  std::istringstream words(kernel_text(group + "/io.stat"));
  for (std::string word; words >> word;) {
    auto equals = word.find('=');
    auto name = ours.find(word.substr(0, equals));
    if (equals == std::string::npos || name == ours.end()) continue;
    std::istringstream number(word.substr(equals + 1));
    if (std::uint64_t value = 0; number >> value) add(out, name->second, value);
  }
  take_pressure(out, group + "/io.pressure");
  return out;
}

object old_cpu(const std::string& accounting, const std::string& cpu) {
  object out = object::object();
  take_number(out, "usageNanos", accounting + "/cpuacct.usage");
  const auto tick_ns = 1'000'000'000u / static_cast<std::uint64_t>(::sysconf(_SC_CLK_TCK));
  take(out, kernel_values(accounting + "/cpuacct.stat"), {{"userNanos", "user"}, {"systemNanos", "system"}},
       tick_ns);
  take(out, kernel_values(cpu + "/cpu.stat"),
       {{"nrPeriods", "nr_periods"}, {"nrThrottled", "nr_throttled"}, {"throttledNanos", "throttled_time"}});
  return out;
}

object old_memory(const std::string& group) {
  object out = object::object();
  take(out, kernel_values(group + "/memory.stat"),
       {{"swapBytes", "total_swap"},
        {"anon", "total_rss"},
        {"file", "total_cache"},
        {"shmem", "total_shmem"},
        {"fileMapped", "total_mapped_file"},
        {"fileDirty", "total_dirty"},
        {"fileWriteback", "total_writeback"},
        {"pgfault", "total_pgfault"},
        {"pgmajfault", "total_pgmajfault"}});
  take_number(out, "kernel", group + "/memory.kmem.usage_in_bytes");
  take_number(out, "peak", group + "/memory.max_usage_in_bytes");
  return out;
}

/// Lines "8:0 Read 1", one a device and direction.
void take_old_io(object& out, const std::string& path, const char* read, const char* write,
                 const char* discard) {
  std::istringstream lines(kernel_text(path));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string device, kind;
    std::uint64_t value = 0;
    if (!(words >> device >> kind >> value)) continue;
    if (kind == "Read") add(out, read, value);
    if (kind == "Write") add(out, write, value);
    if (kind == "Discard") add(out, discard, value);
  }
}

std::string place_in(const group_places& group, const char* controller) {
  auto found = group.controllers.find(controller);
  return found == group.controllers.end() ? "" : found->second;
}

}  // namespace

group_places places_of(const std::string& group, const std::vector<fs::path>& hierarchies) {
  constexpr long cgroup2_magic = 0x63677270;
  group_places out;
  for (const auto& hierarchy : hierarchies) {
    struct statfs info {};
    auto place = hierarchy.string() + group;
    if (::statfs(hierarchy.c_str(), &info) == 0 && info.f_type == cgroup2_magic) {
      out.unified = place;
      continue;
    }
    // A hierarchy of several is called after all of them: "cpu,cpuacct".
    std::istringstream controllers(hierarchy.filename().string());
    for (std::string name; std::getline(controllers, name, ',');) out.controllers[name] = place;
  }
  return out;
}

object group_usage(const group_places& group, std::int64_t when_ns) {
  object cpu, memory, io, pids;
  const auto& one = group.unified;
  if (is_there(one + "/cpu.stat")) cpu = unified_cpu(one);
  if (is_there(one + "/memory.stat")) memory = unified_memory(one);
  if (is_there(one + "/io.stat")) io = unified_io(one);
  if (is_there(one + "/pids.current")) take_number(pids, "current", one + "/pids.current");
  if (auto accounting = place_in(group, "cpuacct"); is_there(accounting + "/cpuacct.usage"))
    cpu = old_cpu(accounting, place_in(group, "cpu"));
  if (auto place = place_in(group, "memory"); is_there(place + "/memory.stat")) memory = old_memory(place);
  if (auto place = place_in(group, "blkio"); is_there(place + "/blkio.throttle.io_service_bytes_recursive")) {
    io = object::object();
    take_old_io(io, place + "/blkio.throttle.io_service_bytes_recursive", "readBytes", "writeBytes",
                "discardBytes");
    take_old_io(io, place + "/blkio.throttle.io_serviced_recursive", "readIOs", "writeIOs", "discardIOs");
  }
  if (auto place = place_in(group, "pids"); is_there(place + "/pids.current"))
    take_number(pids, "current", place + "/pids.current");
  object out;
  for (auto [name, part] :
       {std::pair{"cpuStat", &cpu}, {"memoryStat", &memory}, {"ioStat", &io}, {"pidsStat", &pids}}) {
    if (part->is_null()) continue;
    if (out.is_null()) out["timestamp"] = format_rfc3339(when_ns);
    out[name] = std::move(*part);
  }
  return out;
}

step_usage::step_usage(const std::string& group)
    : group_(group), samples_(configs::usage_interval, configs::step_usage_samples) {
  if (is_of_systemd(group)) return;  // systemd makes the group, and takes it away at its end
  places_ = places_of(group, cgroup_hierarchies());
  machine_before_ = processor_times();
}

void step_usage::watch_memory() {
  auto memory = place_in(places_, "memory");
  if (memory.empty()) return;
  auto inner = memory + "/" + runtime_group;
  std::error_code failure;
  fs::create_directories(inner, failure);
  unique_fd control(::open((inner + "/memory.oom_control").c_str(), O_RDONLY | O_CLOEXEC));
  unique_fd registry(::open((inner + "/cgroup.event_control").c_str(), O_WRONLY | O_CLOEXEC));
  unique_fd notices(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (failure || !control || !registry || !notices) return;
  auto line = std::to_string(notices.get()) + " " + std::to_string(control.get());
  if (::write(registry.get(), line.data(), line.size()) == static_cast<ssize_t>(line.size()))
    notices_ = std::move(notices);
}

std::chrono::milliseconds step_usage::look() {
  if (auto now = group_usage(places_, now_ns()); !now.is_null()) samples_.add(std::move(now));
  return samples_.interval();
}

std::string step_usage::finish() {
  look();
  if (samples_.all().empty()) return "";
  auto spent = processor_times();
  for (auto& [state, seconds] : spent) seconds -= machine_before_[state];
  return json_text(object{{"samples", samples_.all()}, {"sysCPUStat", processor_times_json(spent)}});
}

bool step_usage::out_of_memory() {
  auto killed = [](const values& v) {
    auto found = v.find("oom_kill");
    return found != v.end() && found->second > 0;
  };
  if (killed(kernel_values(places_.unified + "/memory.events"))) return true;
  if (!notices_) return false;
  auto inner = place_in(places_, "memory") + "/" + runtime_group;
  if (is_there(inner)) return killed(kernel_values(inner + "/memory.oom_control"));
  // The runtime has removed its group, which is one notice more than there were events.
  constexpr std::uint64_t of_removal = 1;
  std::uint64_t seen = 0;
  auto until = std::chrono::steady_clock::now() + configs::oom_notice_wait;
  while (seen <= of_removal) {
    auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    pollfd p{notices_.get(), POLLIN, 0};
    if (left.count() <= 0 || ::poll(&p, 1, static_cast<int>(left.count())) <= 0) break;
    std::uint64_t more = 0;
    if (::read(notices_.get(), &more, sizeof more) == sizeof more) seen += more;
  }
  return seen > of_removal;
}

}  // namespace kiln::workers
