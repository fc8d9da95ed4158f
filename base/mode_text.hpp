// File modes as chmod(1) writes them: "755", "u=rwX,go-w", "+t". Pure.
//
// Where chmods differ the words mean what they mean to BuildKit's users (its LLB carries the text): `X` looks
// at the mode as it was before any change, sticky and set-id bits stay unless they are named, `o` alone has
// none of them.
#pragma once

#include <sys/types.h>

#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace kiln {

class mode_change {
 public:
  /// invalid_argument "invalid syntax" for anything chmod would not take. The umask plays no part.
  static result<mode_change> parse(std::string_view text);
  /// The permission bits (07777) that `mode` becomes; its type tells directories.
  mode_t apply(mode_t mode) const;

 private:
  struct step {
    mode_t who = 0;           // the bits it may touch
    char op = '=';            // + - =
    mode_t bits = 0;          // for everybody; masked by who
    bool execute_if = false;  // X
    char copy_from = 0;       // u, g, o: take that class's bits
  };
  static result<step> parse_step(std::string_view& rest, mode_t who);

  std::vector<step> steps_;
};

}  // namespace kiln
