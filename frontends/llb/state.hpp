// A file system together with the settings that commands run with on it. A plain value.
#pragma once

#include <optional>
#include <string>

#include "frontends/llb/graph.hpp"

namespace kiln::llb {

struct state {
  output out;
  env_list env;
  std::string dir = "/";
  std::string user;
  std::string hostname;
  std::optional<kiln::platform> platform;
  pb::NetMode network = pb::NetMode::UNSET;

  /// The same settings on another file system.
  state with(output next) const {
    auto copy = *this;
    copy.out = next;
    return copy;
  }
};

}  // namespace kiln::llb
