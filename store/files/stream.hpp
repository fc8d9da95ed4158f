// Byte sources and sinks: how layers, archives and blobs flow in one pass.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "base/result.hpp"

namespace kiln::store {

/// Something bytes are pushed into. Not thread-safe.
class byte_sink {
 public:
  virtual ~byte_sink() = default;
  virtual status write(std::string_view bytes) = 0;
  /// Flushes; nothing may be written afterwards. A sink destroyed without finish() was abandoned.
  virtual status finish() = 0;
};

/// Something bytes are pulled from. Not thread-safe.
class byte_source {
 public:
  virtual ~byte_source() = default;
  /// Fills at most buffer.size() bytes; 0 at the end.
  virtual result<std::size_t> read(std::span<char> buffer) = 0;
};

/// Bytes at hand, from `at` on.
class text_source final : public byte_source {
 public:
  explicit text_source(std::string text, std::size_t at = 0)
      : text_(std::move(text)), at_(std::min(at, text_.size())) {}
  result<std::size_t> read(std::span<char> buffer) override {
    auto count = text_.copy(buffer.data(), buffer.size(), at_);
    at_ += count;
    return count;
  }

 private:
  std::string text_;
  std::size_t at_;
};

/// Pumps everything from source to sink; does not finish the sink. Returns the bytes moved.
result<std::int64_t> copy(byte_source& source, byte_sink& sink);

}  // namespace kiln::store
