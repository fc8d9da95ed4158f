// Archives rewritten with clamped times: the first byte says how many bytes come at a time.
#include "exporters/tar_times.hpp"

#include "tests/fuzz/support/input.hpp"
#include "tests/support/byte_streams.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  input in(bytes);
  auto piece = std::size_t{in.byte()} * 8 + 1;
  auto archive = in.rest();
  test::string_sink out;
  exporters::tar_time_clamp clamp(out, 1'700'000'000);
  for (std::size_t at = 0; at < archive.size(); at += piece)
    if (!clamp.write(std::string_view(archive).substr(at, piece)).ok()) return;
  (void)clamp.finish();
}
