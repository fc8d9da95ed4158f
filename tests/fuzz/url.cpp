// URLs of redirects: a base and a location, on two lines.

#include "base/url.hpp"
#include "tests/fuzz/support/input.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  input in(bytes);
  auto base = in.line();
  auto location = in.rest();
  (void)host_of_url(base);
  auto url = parse_url(resolve_url(base, location));
  if (!url.ok()) return;
  auto again = parse_url(url->str());
  require(again.ok() && again->str() == url->str(), "there is one way to write a URL");
  require(same_origin(url->str(), url->origin()), "a URL belongs to its origin");
}
