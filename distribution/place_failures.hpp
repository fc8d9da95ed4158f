// Which failure to tell when none of several places (mirrors, then the registry itself) gave what was wanted:
// the first of those that say most. No answer at all says least, then "not found"; any other answer says
// most. Source: containerd core/remotes/docker/resolver.go, Resolve.
#pragma once

#include <optional>
#include <string_view>
#include <utility>

#include "base/result.hpp"

namespace kiln::distribution {

/// What `transport` says first of a request that got no answer.
constexpr std::string_view request_failed = "failed to do request: ";

class place_failures {
 public:
  void add(error e) {
    bool unanswered = e.message.find(request_failed) != std::string::npos;
    int weight = unanswered ? 0 : e.code == errc::not_found ? 1 : 2;
    if (told_ && weight <= weight_) return;
    told_ = std::move(e);
    weight_ = weight;
  }
  /// The one to tell; there must be one.
  const error& told() const { return *told_; }

 private:
  std::optional<error> told_;
  int weight_ = 0;
};

}  // namespace kiln::distribution
