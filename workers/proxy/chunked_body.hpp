// Bodies that come in chunks, read strictly and a piece at a time. Pure. Source: RFC 9112, section 7.1.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace kiln::workers::proxy {

class chunked_body {
 public:
  /// Moves what it can from the front of `in` to `out`, at most `room` bytes; what is left in `in` needs room
  /// or more bytes to follow. True once the body has ended: what then is in `in` comes after it.
  /// invalid_argument for what is no such body. Headers after the body are dropped.
  result<bool> take(std::string_view& in, std::string& out, std::size_t room);
  bool done() const { return at_ == place::end; }

 private:
  enum class place { size, data, data_end, trailer, end };
  /// One line without its end, once it is whole.
  result<bool> line(std::string_view& in, std::size_t bytes_max);
  status begin_chunk();

  place at_ = place::size;
  std::string line_;
  std::uint64_t left_ = 0;  // of a chunk
  std::size_t trailer_bytes_ = 0;
};

}  // namespace kiln::workers::proxy
