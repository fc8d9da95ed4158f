// Byte sources and sinks: how layers, archives and blobs flow in one pass.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "messages/result.hpp"

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

/// Pumps everything from source to sink; does not finish the sink. Returns the bytes moved.
result<std::int64_t> copy(byte_source& source, byte_sink& sink);

}  // namespace kiln::store
