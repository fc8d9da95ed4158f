// Compressed layers: the first byte says how many bytes come at a time.
#include "store/archive/codec.hpp"
#include "tests/fuzz/support/input.hpp"
#include "tests/support/byte_streams.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  constexpr std::int64_t enough = 256 << 20;
  input in(bytes);
  auto piece = std::size_t{in.byte()} + 1;
  auto source = store::make_decompressor(std::make_unique<test::string_source>(in.rest(), piece));
  std::string buffer(64 << 10, '\0');
  for (std::int64_t total = 0; total < enough;) {
    auto n = source->read(buffer);
    if (!n.ok() || *n == 0) return;
    total += static_cast<std::int64_t>(*n);
  }
  require(false, "an input this small does not become that much");
}
