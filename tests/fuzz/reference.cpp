// Names of images.
#include "messages/image_reference.hpp"

#include "tests/fuzz/support/input.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  auto r = parse_image_reference(bytes);
  if (!r.ok()) return;
  require(r->path.find("..") == std::string::npos, "no name leads up");
  auto again = parse_image_reference(r->str());
  require(again.ok() && *again == *r, "a name in its normal form means the same");
  (void)r->familiar();
}
