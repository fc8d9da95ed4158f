// What another node sends over its connection, and what this one does: the gate sees both. First a byte: who
// dialled. Then pieces: a byte (odd: this node's), and a packet.
#include "node/basp_gate.hpp"
#include "tests/fuzz/support/input.hpp"

void kiln::fuzz::try_input(std::string_view bytes) {
  input in(bytes);
  bool dialled = (in.byte() & 1) != 0;
  node::certificate_identity own{"own", {"a"}}, other{"other", {"b"}};
  node::basp_limits limits;
  limits.message_bytes_max = 1 << 20;
  limits.actors_max = 1'000;
  node::basp_gate whole(std::make_shared<node::basp_peers>(own, limits), dialled, other);
  node::basp_gate pieces(std::make_shared<node::basp_peers>(own, limits), dialled, other);
  std::size_t given = 0;
  std::string passed, passed_too;
  while (!in.empty()) {
    bool own_words = (in.byte() & 1) != 0;
    auto piece = in.packet();
    if (own_words) {
      whole.take_out(piece);
      pieces.take_out(piece);
      continue;
    }
    given += piece.size();
    bool good = whole.take_in(piece, passed).ok();
    bool good_too = true;
    for (std::size_t i = 0; i < piece.size() && good_too; ++i)
      good_too = pieces.take_in(std::string_view(piece).substr(i, 1), passed_too).ok();
    require(good == good_too && passed == passed_too, "a connection in pieces is the same connection");
    require(passed.size() <= given, "nothing passes that did not come");
    if (!good) return;
  }
}
