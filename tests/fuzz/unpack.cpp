// Archives unpacked into a jail: the first byte says how, the rest is the archive.
#include "store/archive/unpack.hpp"

#include "tests/fuzz/support/input.hpp"
#include "tests/fuzz/support/jail.hpp"
#include "tests/support/byte_streams.hpp"

namespace kiln::fuzz {
namespace {

store::unpack_options options_of(std::uint8_t how) {
  store::unpack_options options;
  options.on_whiteout = static_cast<store::unpack_options::whiteouts>(how % 3);
  options.detect_compression = (how & 8) != 0;
  options.exact = (how & 16) != 0;
  options.xattrs_best_effort = (how & 32) != 0;
  options.stop_if_parents_needed = (how & 64) != 0;
  if ((how & 128) != 0) options.owner = {1, 2};
  return options;
}

}  // namespace

void try_input(std::string_view bytes) {
  input in(bytes);
  auto options = options_of(in.byte());
  jail& j = fresh_jail();
  test::string_source archive(in.rest());
  (void)store::unpack_tar(archive, j.root(), options, {});
  j.check();
}

}  // namespace kiln::fuzz
