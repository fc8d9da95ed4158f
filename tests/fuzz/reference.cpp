// Image references.
#include "registry/reference.hpp"

#include "frontends/image_reference.hpp"
#include "tests/fuzz/support/input.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  auto as_frontend = frontends::parse_image_reference(bytes);
  auto r = registry::parse_reference(bytes);
  require(r.ok() == as_frontend.ok(), "frontend and registry take the same references");
  if (!r.ok()) return;
  require(r->str() == as_frontend->str(), "frontend and registry read a reference the same");
  require(r->path.find("..") == std::string::npos, "no reference leads up");
  (void)r->familiar();
  auto again = registry::parse_reference(r->str());
  require(again.ok() && *again == *r, "a reference in its normal form means the same");
}
