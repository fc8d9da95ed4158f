#include "client/progress/format.hpp"

#include <cmath>
#include <ctime>

#include <fmt/format.h>

#include "base/time_text.hpp"

namespace kiln::client {
namespace {

constexpr std::string_view units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};

// The value in the largest unit that keeps it at least 1, and that unit's index.
std::pair<double, std::size_t> scale(std::int64_t bytes) {
  double base = 1;
  std::size_t unit = 0;
  while (unit + 1 < std::size(units) && std::abs(static_cast<double>(bytes)) >= base * 1000) {
    base *= 1000;
    ++unit;
  }
  return {static_cast<double>(bytes) / base, unit};
}

}  // namespace

std::string format_bytes(std::int64_t bytes) {
  auto [value, unit] = scale(bytes);
  if (unit == 0) return fmt::format("{}B", bytes);
  return fmt::format("{:.2f}{}", value, units[unit]);
}

std::string format_bytes_short(std::int64_t bytes) {
  auto [value, unit] = scale(bytes);
  if (unit == 0) return fmt::format("{}B", bytes);
  return fmt::format("{}{}", value, units[unit]);
}

std::string format_seconds(nanoseconds_t duration, int decimals) {
  return fmt::format("{:.{}f}", static_cast<double>(duration) / 1e9, decimals);
}

std::string format_rfc3339_local(nanoseconds_t time) {
  std::time_t seconds = time / 1'000'000'000;
  std::tm tm{};
  localtime_r(&seconds, &tm);
  auto text = fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday,
                          tm.tm_hour, tm.tm_min, tm.tm_sec);
  long offset_minutes = tm.tm_gmtoff / 60;
  if (offset_minutes == 0) return text + "Z";
  char sign = offset_minutes < 0 ? '-' : '+';
  offset_minutes = std::labs(offset_minutes);
  return text + fmt::format("{}{:02}:{:02}", sign, offset_minutes / 60, offset_minutes % 60);
}

std::string format_go_time(nanoseconds_t time) {
  auto text = format_rfc3339(time);
  text.pop_back();
  return text.replace(10, 1, " ") + " +0000 UTC";
}

std::string limit_text(std::string_view text, std::size_t limit) {
  if (text.size() <= limit) return std::string(text);
  return std::string(text.substr(0, limit)) + "...";
}

}  // namespace kiln::client
