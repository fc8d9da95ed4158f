// How fast a service that has said "slow down" is asked: the adaptive retry mode of the AWS SDKs. Until it
// says so for the first time, as fast as one likes. Thread-safe; the caller says what time it is. Source:
// docs.aws.amazon.com, AWS SDKs and Tools Reference Guide, "Retry behavior"; the rate follows RFC 8312
// (CUBIC).
#pragma once

#include <chrono>
#include <mutex>

namespace kiln::exporters {

class request_pace {
 public:
  using seconds = std::chrono::duration<double>;

  /// Takes one request's share; how long to wait before it is sent. `now`: since any fixed point.
  seconds take(seconds now);
  /// One was answered: whether by "slow down".
  void answered(seconds now, bool throttled);

 private:
  void refill(double now);
  void measure(double now);

  std::mutex mutex_;
  bool limited_ = false;
  double rate_ = 0, capacity_ = 0, left_ = 0, refilled_at_ = 0;  // requests a second, requests, seconds
  double measured_ = 0, counted_from_ = 0;
  int count_ = 0;
  double rate_at_throttle_ = 0, throttled_at_ = 0;
};

}  // namespace kiln::exporters
