// The command of an exec step as records, errors and logs tell it: never more of it than anyone reads.
#pragma once

#include <string>

#include "configs/executor.hpp"
#include "ops.pb.h"

namespace kiln::workers {

/// The arguments in one line, cut after `shown_command_bytes`.
inline std::string command_text(const pb::Meta& meta) {
  std::string text;
  for (const auto& arg : meta.args()) {
    if (!text.empty()) text += ' ';
    text += arg.substr(0, configs::shown_command_bytes);
    if (text.size() <= configs::shown_command_bytes) continue;
    auto end = configs::shown_command_bytes;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;  // whole characters
    text.resize(end);
    return text + "…";
  }
  return text;
}

}  // namespace kiln::workers
