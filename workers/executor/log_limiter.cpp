#include "workers/executor/log_limiter.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <optional>

#include "configs/executor.hpp"

namespace kiln::workers {

namespace {

std::optional<std::int64_t> environment_number(const char* name) {
  const char* text = std::getenv(name);
  if (text == nullptr || *text == '\0') return std::nullopt;
  char* end = nullptr;
  long value = std::strtol(text, &end, 10);
  if (*end != '\0') return std::nullopt;
  return value;
}

// Go's "%#g" of units.Bytes: binary units, the shortest text of the number.
std::string bytes_text(std::int64_t bytes) {
  static constexpr const char* units[] = {"B", "KiB", "MiB", "GiB"};
  double value = static_cast<double>(bytes);
  int unit = 0;
  while (unit < 3 && value >= 1024) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return std::string(text) + units[unit];
}

}  // namespace

const log_limits& log_limits::from_environment() {
  static const log_limits limits{
      environment_number("BUILDKIT_STEP_LOG_MAX_SIZE").value_or(configs::step_log_max_size),
      environment_number("BUILDKIT_STEP_LOG_MAX_SPEED").value_or(configs::step_log_max_speed)};
  return limits;
}

std::string log_limiter::pass(std::string_view bytes, clock::time_point now) {
  std::int64_t before = size_;
  size_ += static_cast<std::int64_t>(bytes.size());
  std::int64_t limit = -1;
  bool by_speed = false;
  if (limits_.speed != -1) {
    double seconds = std::max(1.0, std::ceil(std::chrono::duration<double>(now - start_).count()));
    limit = static_cast<std::int64_t>(seconds) * limits_.speed;
    by_speed = true;
  }
  if (limit == -1 || limit > limits_.size) {  // an unlimited size lifts the speed limit too, as upstream
    limit = limits_.size;
    by_speed = false;
  }
  std::size_t passed = bytes.size();
  if (limit != -1 && size_ > limit) {
    passed = static_cast<std::size_t>(
        std::clamp<std::int64_t>(limit - before, 0, static_cast<std::int64_t>(bytes.size())));
  }
  if (passed < bytes.size()) keep_tail_ = true;
  if (keep_tail_) {
    std::string_view keep = bytes.substr(bytes.size() - std::min(bytes.size(), configs::step_log_tail));
    for (std::size_t done = 0; done < keep.size();) {
      if (tail_.size() < configs::step_log_tail) {
        std::size_t n = std::min(keep.size() - done, configs::step_log_tail - tail_.size());
        tail_.append(keep, done, n);
        done += n;
        continue;
      }
      std::size_t n = std::min(keep.size() - done, configs::step_log_tail - tail_at_);
      tail_.replace(tail_at_, n, keep, done, n);
      tail_at_ = (tail_at_ + n) % configs::step_log_tail;
      done += n;
    }
  }
  std::string out(bytes.substr(0, passed));
  bool whole = passed == bytes.size();
  if (whole) clipping_ = false;
  if (!whole && !clipping_) {
    out += "\n[output clipped, log limit " +
           (by_speed ? bytes_text(limits_.speed) + "/s" : bytes_text(limits_.size)) + " reached]\n";
    clipping_ = true;
  }
  return out;
}

std::string log_limiter::take_tail() {
  std::string out = tail_.substr(tail_at_) + tail_.substr(0, tail_at_);
  tail_.clear();
  tail_at_ = 0;
  keep_tail_ = false;
  return out;
}

}  // namespace kiln::workers
