// How many restarts happened lately. Pure.
#pragma once

#include <chrono>
#include <deque>

namespace kiln::supervision {

class restart_window {
 public:
  using time_point = std::chrono::steady_clock::time_point;

  restart_window(int intensity, std::chrono::milliseconds period) : intensity_(intensity), period_(period) {}

  /// Notes a restart at `now`; false when that is one too many within the period.
  bool add(time_point now) {
    restarts_.push_back(now);
    while (!restarts_.empty() && now - restarts_.front() > period_) restarts_.pop_front();
    return restarts_.size() <= static_cast<std::size_t>(intensity_);
  }

 private:
  int intensity_;
  std::chrono::milliseconds period_;
  std::deque<time_point> restarts_;
};

}  // namespace kiln::supervision
