// Going through an open file from where it stands, a block at a time. Thread-safe.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace kiln::workers {

/// Hands every block to `use`, which returns a status; `doing` is what an error of reading is called.
template <class Use>
status for_each_block(int file, const std::string& doing, Use&& use) {
  std::vector<char> buffer(256 << 10);
  while (true) {
    auto count = ::read(file, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno_error(errno, doing);
    if (count == 0) return {};
    KILN_CHECK(use(std::string_view(buffer.data(), static_cast<std::size_t>(count))));
  }
}

}  // namespace kiln::workers
