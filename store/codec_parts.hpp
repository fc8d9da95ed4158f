// The codecs behind store/codec.hpp, one factory each. Private to store/.
#pragma once

#include <memory>

#include "store/codec.hpp"

namespace kiln::store {

std::unique_ptr<byte_sink> make_gzip_writer(int level, byte_sink& out, unsigned threads);
std::unique_ptr<byte_sink> make_zstd_writer(int level, byte_sink& out, unsigned threads);

}  // namespace kiln::store
