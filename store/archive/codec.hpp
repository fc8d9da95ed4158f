// Layer compression, both ways. Output bytes depend on the input and the settings only, never on thread
// count.
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "configs/codec.hpp"
#include "store/files/stream.hpp"

namespace kiln::store {

enum class compression { uncompressed, gzip, zstd, estargz };

/// "uncompressed", "gzip", "zstd", "estargz"; invalid_argument otherwise.
result<compression> parse_compression(std::string_view text);
std::string_view to_string(compression c);
/// What a layer media type (OCI or Docker) says of its compression; nothing when it is no layer.
std::optional<compression> compression_of_media_type(std::string_view media_type);

/// A sink that compresses into `out` on up to `threads` threads (0 = all cores).
/// Not for estargz, which looks into the archive (store/archive/estargz.hpp); reading it is reading gzip.
/// finish() ends the stream but does not finish `out`, which belongs to the caller.
/// level: unset = the codec's default; gzip 0–9, zstd 0–22.
std::unique_ptr<byte_sink> make_compressor(compression kind, std::optional<int> level, byte_sink& out,
                                           unsigned threads = 0);

/// How far decompression may go before it is taken for a bomb.
struct decompress_options {
  bool archives = false;  // also xz and bzip2, which archives use and layers do not
  double ratio_max = configs::decompress_ratio_max;         // of output to input, zeros not counted …
  long long free_output = configs::decompress_free_output;  // … once there is more than this of it, bytes
};

/// A source of the decompressed bytes: gzip, zstd and what the options add, told by their magic; anything
/// else passes through. One level of compression only: what comes out is not looked at again.
std::unique_ptr<byte_source> make_decompressor(std::unique_ptr<byte_source> in,
                                               decompress_options options = {});

}  // namespace kiln::store
