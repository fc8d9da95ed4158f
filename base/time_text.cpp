#include "base/time_text.hpp"

#include <array>
#include <cstdio>
#include <ctime>

#include <curl/curl.h>

namespace kiln {
namespace {

constexpr std::int64_t second = 1'000'000'000;
constexpr std::string_view zero_text = "0001-01-01T00:00:00Z";

/// Reads `count` digits at `at` and moves on; -1 when they are not all digits.
int digits(std::string_view text, std::size_t& at, std::size_t count) {
  if (at + count > text.size()) return -1;
  int value = 0;
  for (std::size_t end = at + count; at < end; ++at) {
    if (text[at] < '0' || text[at] > '9') return -1;
    value = value * 10 + (text[at] - '0');
  }
  return value;
}

bool skip(std::string_view text, std::size_t& at, char c) {
  if (at >= text.size() || text[at] != c) return false;
  ++at;
  return true;
}

int days_in_month(int year, int month) {
  constexpr std::array<int, 12> days{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  return month == 2 && leap ? 29 : days[static_cast<std::size_t>(month - 1)];
}

/// "2024-02-29T12:00:00".
std::string to_the_second(std::int64_t unix_seconds) {
  std::time_t t = unix_seconds;
  std::tm parts{};
  ::gmtime_r(&t, &parts);
  std::array<char, 64> buffer{};
  std::strftime(buffer.data(), buffer.size(), "%Y-%m-%dT%H:%M:%S", &parts);
  return buffer.data();
}

struct split_time {
  std::int64_t seconds = 0;  // since 1970
  std::int64_t nanoseconds = 0;
};

/// Any year that has four digits.
std::optional<split_time> parse(std::string_view text) {
  std::size_t at = 0;
  int year = digits(text, at, 4);
  if (year < 0 || !skip(text, at, '-')) return {};
  int month = digits(text, at, 2);
  if (month < 1 || month > 12 || !skip(text, at, '-')) return {};
  int day = digits(text, at, 2);
  if (day < 1 || day > days_in_month(year, month) || !skip(text, at, 'T')) return {};
  int hour = digits(text, at, 2);
  if (hour < 0 || hour > 23 || !skip(text, at, ':')) return {};
  int minute = digits(text, at, 2);
  if (minute < 0 || minute > 59 || !skip(text, at, ':')) return {};
  int sec = digits(text, at, 2);
  if (sec < 0 || sec > 59) return {};
  std::int64_t fraction = 0;
  if (skip(text, at, '.')) {
    std::size_t first = at;
    for (std::int64_t unit = second / 10; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
      fraction += unit * (text[at] - '0');
      unit /= 10;
    }
    if (at == first) return {};
  }
  std::int64_t offset = 0;
  if (!skip(text, at, 'Z')) {
    bool west = at < text.size() && text[at] == '-';
    if (at >= text.size() || (text[at] != '+' && text[at] != '-')) return {};
    ++at;
    int h = digits(text, at, 2);
    if (h < 0 || h > 23 || !skip(text, at, ':')) return {};
    int m = digits(text, at, 2);
    if (m < 0 || m > 59) return {};
    offset = (h * 60 + m) * 60;
    if (west) offset = -offset;
  }
  if (at != text.size()) return {};
  std::tm parts{};
  parts.tm_year = year - 1900, parts.tm_mon = month - 1, parts.tm_mday = day;
  parts.tm_hour = hour, parts.tm_min = minute, parts.tm_sec = sec;
  return split_time{static_cast<std::int64_t>(::timegm(&parts)) - offset, fraction};
}

}  // namespace

std::string format_rfc3339_nine(std::int64_t unix_ns) {
  std::int64_t seconds = unix_ns / second, rest = unix_ns % second;
  if (rest < 0) --seconds, rest += second;
  return to_the_second(seconds) + "." + std::to_string(second + rest).substr(1) + "Z";
}

std::string format_rfc3339(std::int64_t unix_ns) {
  if (unix_ns == no_time) return std::string(zero_text);
  auto out = format_rfc3339_nine(unix_ns);
  out.pop_back();
  out.erase(out.find_last_not_of('0') + 1);
  if (out.ends_with('.')) out.pop_back();
  return out + "Z";
}

std::string format_rfc3339_seconds(std::int64_t unix_seconds) { return to_the_second(unix_seconds) + "Z"; }

std::optional<std::int64_t> parse_rfc3339(std::string_view text) {
  if (text == zero_text) return no_time;
  auto time = parse(text);
  if (!time || text < "1678" || text >= "2262") return {};
  return time->seconds * second + time->nanoseconds;
}

std::optional<std::int64_t> parse_rfc3339_clamped(std::string_view text) {
  auto time = parse(text);
  if (!time) return {};
  constexpr auto most = std::numeric_limits<std::int64_t>::max() / second - 1;
  if (time->seconds > most) return std::numeric_limits<std::int64_t>::max();
  if (time->seconds < -most) return std::numeric_limits<std::int64_t>::min();
  return time->seconds * second + time->nanoseconds;
}

std::string format_http_date(std::int64_t unix_seconds) {
  std::time_t t = unix_seconds;
  std::tm parts{};
  ::gmtime_r(&t, &parts);
  static constexpr const char* days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr const char* months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                           "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  std::array<char, 64> out{};
  std::snprintf(out.data(), out.size(), "%s, %02d %s %04d %02d:%02d:%02d GMT", days[parts.tm_wday],
                parts.tm_mday, months[parts.tm_mon], parts.tm_year + 1900, parts.tm_hour, parts.tm_min,
                parts.tm_sec);
  return out.data();
}

std::optional<std::int64_t> parse_http_date(const std::string& text) {
  if (text.empty()) return {};
  std::time_t t = ::curl_getdate(text.c_str(), nullptr);
  if (t < 0) return {};
  return t;
}

}  // namespace kiln
