// File modes as chmod(1) writes them: "755", "u=rwX,go-w", "+t". Pure.
#pragma once

#include <sys/types.h>

#include <string_view>
#include <vector>

#include "messages/result.hpp"

namespace kiln::workers {

class mode_change {
 public:
  /// invalid_argument for anything chmod would not take. The umask plays no part.
  static result<mode_change> parse(std::string_view text);
  /// The permission bits (07777) that `mode` becomes.
  mode_t apply(mode_t mode) const;

 private:
  struct step {
    mode_t who = 0;           // mask of the bits this may touch
    char op = '=';            // + - =
    mode_t bits = 0;          // fixed bits, for everybody; masked by who
    bool execute_if = false;  // X
    char copy_from = 0;       // u, g, o: take that class's bits
  };
  std::vector<step> steps_;
};

}  // namespace kiln::workers
