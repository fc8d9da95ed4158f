// The codecs behind store/codec.hpp, one factory each. Private to store/.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "store/codec.hpp"

namespace kiln::store {

std::unique_ptr<byte_sink> make_gzip_writer(int level, byte_sink& out, unsigned threads);
std::unique_ptr<byte_sink> make_zstd_writer(int level, byte_sink& out, unsigned threads);

/// Turns a complete raw deflate stream into one that may be followed by another: clears the final
/// flag of its last block and appends an empty stored block, so that it ends on a byte. `size` bytes
/// of `stream` are used; the vector must have `deflate_slack` spare bytes behind them.
/// Returns the new size; internal when the stream is not valid deflate.
result<std::size_t> reopen_deflate(std::vector<unsigned char>& stream, std::size_t size);
inline constexpr std::size_t deflate_slack = 16;

}  // namespace kiln::store
