// Platforms.
#include "messages/platform.hpp"

#include "tests/fuzz/support/input.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  auto p = parse_platform(bytes);
  if (!p.ok()) return;
  (void)match_rank(host_platform(), *p);
  auto again = parse_platform(format_platform(*p));
  require(again.ok() && again->architecture == p->architecture,
          "a platform in its normal form means the same");
}
