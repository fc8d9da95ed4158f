// URLs of redirects: a base and a location, on two lines.
#include "registry/transport.hpp"
#include "tests/fuzz/support/input.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  input in(bytes);
  auto base = in.line();
  auto location = in.rest();
  (void)registry::host_of_url(base);
  (void)registry::host_of_url(registry::resolve_url(base, location));
}
