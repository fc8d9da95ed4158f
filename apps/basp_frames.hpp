// The lengths of CAF's messages on a connection: its reader makes room for whatever length a header claims, up to
// 4 GB, so that is looked at before CAF sees it. Pure.
// Source: CAF 0.17.6, caf/io/basp/header.hpp: 32 bytes, the payload's length big-endian in the second four.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace kiln::apps {

class basp_frames {
 public:
  explicit basp_frames(std::size_t payload_bytes_max) : payload_bytes_max_(payload_bytes_max) {}

  /// The next bytes of a connection; false when a message is too long.
  bool pass(const char* data, std::size_t size) {
    while (size > 0) {
      if (payload_left_ > 0) {
        auto n = std::min(payload_left_, size);
        payload_left_ -= n;
        data += n;
        size -= n;
        continue;
      }
      if (at_ >= 4 && at_ < 8) length_ = length_ << 8 | static_cast<unsigned char>(*data);
      ++data;
      --size;
      if (++at_ < header_bytes) continue;
      if (length_ > payload_bytes_max_) return false;
      payload_left_ = length_;
      at_ = 0;
      length_ = 0;
    }
    return true;
  }

 private:
  static constexpr std::size_t header_bytes = 32;
  std::size_t payload_bytes_max_;
  std::size_t at_ = 0;  // in a header
  std::size_t length_ = 0;
  std::size_t payload_left_ = 0;
};

}  // namespace kiln::apps
