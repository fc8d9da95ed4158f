// Names of fields as users write them: match_type, MatchType and matchtype are the same. Pure.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>

#include "base/text.hpp"

namespace kiln::client {

inline std::string folded(std::string_view name) {
  auto out = to_lower(name);
  std::erase(out, '_');
  return out;
}

}  // namespace kiln::client
