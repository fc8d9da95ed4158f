// A text cut to a length for whoever reads it. Pure.
#pragma once

#include <string>

namespace kiln {

/// The text, or its beginning with "…" after it when it is longer than so many bytes; cut between two
/// characters.
inline std::string shortened(std::string text, std::size_t bytes_max) {
  if (text.size() <= bytes_max) return text;
  while (bytes_max > 0 && (static_cast<unsigned char>(text[bytes_max]) & 0xc0) == 0x80) --bytes_max;
  text.resize(bytes_max);
  return text + "…";
}

}  // namespace kiln
