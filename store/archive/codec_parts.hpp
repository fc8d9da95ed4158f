// The codecs behind store/archive/codec.hpp, one factory each. Private to store/.
#pragma once

#include <memory>

#include "store/archive/codec.hpp"
#include "store/archive/decompress_input.hpp"

namespace kiln::store {

std::unique_ptr<byte_sink> make_gzip_writer(int level, byte_sink& out, unsigned threads);
std::unique_ptr<byte_sink> make_zstd_writer(int level, byte_sink& out, unsigned threads);

/// By the magic of what is pending: a decoder of xz or bzip2, or null.
std::unique_ptr<byte_source> make_archive_decoder(const std::shared_ptr<decompress_input>& in);

}  // namespace kiln::store
