// Signed git objects taken apart, and gpg's reports on them.
#include "tests/fuzz/support/input.hpp"
#include "workers/sources/signatures.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  auto parts = workers::split_signed_object(bytes);
  require(parts.payload.size() + parts.signature.size() <= bytes.size() + 1, "nothing is made up");
  (void)workers::check_pgp_report(bytes, true);
  (void)workers::check_pgp_report(bytes, false);
}
