// BASP frames of another node, as they pass the relay: each byte of the first packet is the length of a
// piece.
#include "apps/basp_frames.hpp"
#include "tests/fuzz/support/input.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  input in(bytes);
  auto pieces = in.packet();
  auto traffic = in.rest();
  apps::basp_frames frames(1 << 20);
  std::string_view rest = traffic;
  for (std::size_t i = 0; !rest.empty(); ++i) {
    auto n =
        pieces.empty() ? rest.size() : std::size_t{static_cast<unsigned char>(pieces[i % pieces.size()])} + 1;
    auto piece = rest.substr(0, n);
    if (!frames.pass(piece.data(), piece.size())) return;
    rest.remove_prefix(piece.size());
  }
}
