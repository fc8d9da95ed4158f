#include "node/stop_deadline.hpp"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>

#include <spdlog/spdlog.h>

#include "base/duration.hpp"

namespace kiln::node {

namespace {

namespace fs = std::filesystem;

std::string first_line(const fs::path& file) {
  std::ifstream in(file);
  std::string out;
  std::getline(in, out);
  return out;
}

}  // namespace

std::vector<std::string> running_threads() {
  std::map<std::string, int> counts;
  std::error_code gone;
  for (const auto& task : fs::directory_iterator("/proc/self/task", gone)) {
    auto stat = first_line(task.path() / "stat");
    auto end_of_name = stat.rfind(')');
    auto state =
        end_of_name != std::string::npos && end_of_name + 2 < stat.size() ? stat[end_of_name + 2] : '?';
    auto waits = first_line(task.path() / "wchan");
    ++counts[first_line(task.path() / "comm") + " (" + state +
             (waits.empty() || waits == "0" ? "" : ", " + waits) + ")"];
  }
  std::vector<std::string> out;
  for (const auto& [what, count] : counts) out.push_back(std::to_string(count) + " × " + what);
  return out;
}

stop_deadline::~stop_deadline() {
  {
    std::lock_guard lock(mutex_);
    in_time_ = true;
  }
  over_.notify_all();
  watch_.join();
}

void stop_deadline::begin(std::chrono::nanoseconds time, int exit_code,
                          std::function<std::string()> what_runs) {
  if (watch_.joinable()) return;
  auto watch = thread::start("stop-deadline", [this, time, exit_code, what_runs = std::move(what_runs)] {
    {
      std::unique_lock lock(mutex_);
      if (over_.wait_for(lock, time, [this] { return in_time_; })) return;
    }
    spdlog::critical("not stopped {} after being told to: the process ends now; still running:",
                     format_duration(time.count()));
    for (const auto& line : running_threads()) spdlog::critical("  {}", line);
    if (what_runs) spdlog::critical("  {}", what_runs());
    spdlog::shutdown();
    ::_exit(exit_code);
  });
  if (watch.ok()) {
    watch_ = *std::move(watch);
  } else {
    // Nobody can watch: the kernel does.
    spdlog::error("{}", watch.error().message);
    ::alarm(static_cast<unsigned>(std::chrono::ceil<std::chrono::seconds>(time).count()));
  }
}

}  // namespace kiln::node
