// Filters of the build history: containerd's expressions plus comparisons of times and durations. Pure.
// Source: solver/llbsolver/history/filter.go.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "messages/actor_interfaces.hpp"

namespace kiln::actors {

using history_predicate = std::function<bool(const ctl::BuildHistoryRecord&)>;

/// Any filter may match, each a comma-separated list of terms that all must: `ref`, `status` (completed,
/// running, error, canceled) and `repository` with ==, !=, ~=; `startedAt`, `completedAt` (RFC 3339 or a
/// duration ago) and `duration` with >=, <=, >, <. Errors: "invalid time x", "invalid duration x", or
/// containerd's text.
result<history_predicate> parse_history_filters(const std::vector<std::string>& filters, std::int64_t now_ns);

}  // namespace kiln::actors
