// Names of compressions and the choice of codec. The codecs themselves are in gzip_writer.cpp,
// zstd_writer.cpp and decompressor.cpp.
#include "store/archive/codec.hpp"

#include <algorithm>
#include <thread>

#include "configs/codec.hpp"
#include "store/archive/codec_parts.hpp"

namespace kiln::store {
namespace {

class pass_through : public byte_sink {
 public:
  explicit pass_through(byte_sink& out) : out_(out) {}
  status write(std::string_view bytes) override { return out_.write(bytes); }
  status finish() override { return {}; }

 private:
  byte_sink& out_;
};

}  // namespace

// Source: util/compression/compression.go, parse.
result<compression> parse_compression(std::string_view text) {
  for (auto c : {compression::uncompressed, compression::gzip, compression::zstd, compression::estargz})
    if (text == to_string(c)) return c;
  return make_error(errc::invalid_argument, "unsupported compression type " + std::string(text));
}

std::string_view to_string(compression c) {
  switch (c) {
    case compression::uncompressed: return "uncompressed";
    case compression::gzip: return "gzip";
    case compression::zstd: return "zstd";
    case compression::estargz: return "estargz";
  }
  return "unknown";
}

// Source: util/compression/compression.go, toOCILayerType.
std::optional<compression> compression_of_media_type(std::string_view media_type) {
  struct known {
    std::string_view media_type;
    compression kind;
  };
  static constexpr known table[] = {
      {"application/vnd.oci.image.layer.v1.tar", compression::uncompressed},
      {"application/vnd.oci.image.layer.v1.tar+gzip", compression::gzip},
      {"application/vnd.oci.image.layer.v1.tar+zstd", compression::zstd},
      {"application/vnd.oci.image.layer.nondistributable.v1.tar", compression::uncompressed},
      {"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", compression::gzip},
      {"application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", compression::zstd},
      {"application/vnd.docker.image.rootfs.diff.tar", compression::uncompressed},
      {"application/vnd.docker.image.rootfs.diff.tar.gzip", compression::gzip},
      {"application/vnd.docker.image.rootfs.diff.tar.zstd", compression::zstd},
      {"application/vnd.docker.image.rootfs.foreign.diff.tar", compression::uncompressed},
      {"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", compression::gzip},
  };
  for (const auto& k : table)
    if (k.media_type == media_type) return k.kind;
  return std::nullopt;
}

std::unique_ptr<byte_sink> make_compressor(compression kind, std::optional<int> level, byte_sink& out,
                                           unsigned threads) {
  if (threads == 0) threads = std::max(1u, std::thread::hardware_concurrency());
  threads = std::min(threads, configs::compress_max_threads);
  switch (kind) {
    case compression::uncompressed: break;
    case compression::estargz:
    case compression::gzip:
      return make_gzip_writer(std::clamp(level.value_or(configs::gzip_default_level), 0, 9), out, threads);
    case compression::zstd:
      return make_zstd_writer(std::clamp(level.value_or(configs::zstd_default_level), 0, 22), out, threads);
  }
  return std::make_unique<pass_through>(out);
}

}  // namespace kiln::store
