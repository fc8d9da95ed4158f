// When a server that refuses wants to be asked again. Pure, but for the time of day.
#pragma once

#include <chrono>
#include <ctime>
#include <optional>

#include "distribution/transport.hpp"

namespace kiln::distribution {

/// The Retry-After header, in seconds or as a date; 0 for a date that has passed, nothing when there is none
/// that makes sense. Source: RFC 9110, section 10.2.3.
std::optional<std::chrono::seconds> retry_after(const headers& h, std::time_t now = std::time(nullptr));

}  // namespace kiln::distribution
