#include "exporters/cache/request_pace.hpp"

#include <algorithm>
#include <cmath>

namespace kiln::exporters {
namespace {

constexpr double kept_of_rate = 0.7;     // when told to slow down
constexpr double growth = 0.4;           // of the cubic curve back to the rate before, and beyond
constexpr double slowest = 0.5;          // requests a second
constexpr double smallest_capacity = 1;  // requests
constexpr double weight_of_new = 0.8;    // of a measurement against those before
constexpr double measured_each = 0.5;    // seconds

}  // namespace

void request_pace::refill(double now) {
  left_ = std::min(capacity_, left_ + std::max(0.0, now - refilled_at_) * rate_);
  refilled_at_ = now;
}

request_pace::seconds request_pace::take(seconds now) {
  std::lock_guard lock(mutex_);
  if (!limited_) return seconds(0);
  refill(now.count());
  left_ -= 1;  // below zero: owed by those who wait
  return seconds(left_ >= 0 ? 0 : -left_ / rate_);
}

void request_pace::measure(double now) {
  ++count_;
  double bucket = std::floor(now / measured_each) * measured_each;
  if (bucket <= counted_from_) return;
  measured_ = count_ / (bucket - counted_from_) * weight_of_new + measured_ * (1 - weight_of_new);
  count_ = 0;
  counted_from_ = bucket;
}

void request_pace::answered(seconds at, bool throttled) {
  std::lock_guard lock(mutex_);
  double now = at.count();
  measure(now);
  double wanted = 0;
  if (throttled) {
    rate_at_throttle_ = limited_ ? std::min(measured_, rate_) : measured_;
    throttled_at_ = now;
    wanted = rate_at_throttle_ * kept_of_rate;
    limited_ = true;
  } else {
    double way_back = std::cbrt(rate_at_throttle_ * (1 - kept_of_rate) / growth);
    wanted = growth * std::pow(now - throttled_at_ - way_back, 3) + rate_at_throttle_;
  }
  if (!limited_) return;
  refill(now);
  rate_ = std::max(std::min(wanted, 2 * measured_), slowest);
  capacity_ = std::max(rate_, smallest_capacity);
  left_ = std::min(left_, capacity_);
}

}  // namespace kiln::exporters
