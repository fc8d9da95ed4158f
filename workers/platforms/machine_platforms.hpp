// What runs on this machine: the levels of its own processor, and every architecture whose programs the
// kernel starts, be it by an emulator that binfmt_misc knows. Found by trying; binfmt_misc changes while the
// daemon runs, so it is tried again for those who list workers. Thread-safe.
// Source: BuildKit util/archutil, worker/base (Platforms).
#pragma once

#include <chrono>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "messages/platform.hpp"

namespace kiln::workers {

/// Runs a program to its end: its exit code.
using program_probe = std::function<result<int>(const std::string& program)>;

/// Levels of the x86-64 architecture (2 to 4) that this processor and kernel have; 1 elsewhere.
int native_amd64_level();

/// All that runs here, the native platform first, with variants, each normalized.
std::vector<platform> find_platforms(const program_probe& probe, const platform& native, int amd64_level);

/// Those a worker offers: the configured ones first, then what else runs here.
std::vector<platform> offered_platforms(const std::vector<platform>& configured,
                                        const std::vector<platform>& found);

/// Whether programs of a platform are among those that run.
bool runs_among(const std::vector<platform>& found, const platform& wanted);

class machine_platforms {
 public:
  /// `max_age`: how long what was found is good; negative: for ever.
  machine_platforms(program_probe probe, std::chrono::nanoseconds max_age);

  /// As last found, whenever that was. Blocking the first time.
  std::vector<platform> known() const;
  /// Tries again if that is due. Blocking.
  void refresh();
  /// Why programs of a platform do not run here; ok when they do, or when that is not known. Blocking.
  status why_not(const platform& wanted) const;

 private:
  using clock = std::chrono::steady_clock;
  void find() const;

  program_probe probe_;
  std::chrono::nanoseconds max_age_;
  mutable std::mutex mutex_;  // what follows
  mutable std::vector<platform> found_;
  mutable clock::time_point when_;
};

}  // namespace kiln::workers
