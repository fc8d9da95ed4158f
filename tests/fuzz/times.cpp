// RFC 3339 times.
#include "base/time_text.hpp"

#include "tests/fuzz/support/input.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  auto time = parse_rfc3339(bytes);
  if (time) require(parse_rfc3339(format_rfc3339(*time)) == time, "a time written is the time read");
}
