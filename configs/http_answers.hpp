// Bounds of what web servers answer: units and ranges beside each value. Plain constants, no code.
#pragma once

#include <cstddef>

namespace kiln::configs {

/// Headers of one answer that are kept; further ones are passed over.
inline constexpr std::size_t answer_headers_max = 256;
/// Bytes of all headers of one request's answers, interim ones included. 64 – 256 KiB; libcurl takes 300.
inline constexpr std::size_t answer_header_bytes_max = 256 << 10;
/// Bytes of one header. It is libcurl's own bound, told here for its error.
inline constexpr std::size_t answer_header_line_bytes_max = 100 << 10;
/// Redirects followed for one request.
inline constexpr int redirects_max = 10;

}  // namespace kiln::configs
