#include "distribution/retry_after.hpp"

#include <algorithm>
#include <cstdint>
#include <string>

#include "base/numbers.hpp"
#include "base/text.hpp"
#include "base/time_text.hpp"

namespace kiln::distribution {

namespace {

constexpr std::int64_t longest_s = 1'000'000;  // more is no pause

}  // namespace

std::optional<std::chrono::seconds> retry_after(const headers& h, std::time_t now) {
  auto text = std::string(trim(header_of(h, "retry-after")));
  std::optional<std::int64_t> seconds;
  if (auto number = parse_int(text)) seconds = *number;
  else if (auto date = parse_http_date(text)) seconds = std::max<std::int64_t>(0, *date - now);
  if (!seconds || *seconds < 0 || *seconds >= longest_s) return std::nullopt;
  return std::chrono::seconds(*seconds);
}

}  // namespace kiln::distribution
