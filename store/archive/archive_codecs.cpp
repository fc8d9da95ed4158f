// Decoders of what only archives use, never layers: xz and bzip2. Each file may hold several streams.
#include <bzlib.h>
#include <lzma.h>

#include "configs/codec.hpp"
#include "store/archive/codec_parts.hpp"

namespace kiln::store {

namespace {

error corrupt(std::string text) { return make_error(errc::data_loss, std::move(text)); }

class xz_reader final : public byte_source {
 public:
  explicit xz_reader(std::shared_ptr<decompress_input> in) : in_(std::move(in)) {
    ready_ = lzma_stream_decoder(&stream_, configs::xz_memory_max, LZMA_CONCATENATED) == LZMA_OK;
  }
  ~xz_reader() override { lzma_end(&stream_); }

  result<std::size_t> read(std::span<char> buffer) override {
    if (!ready_) return make_error(errc::resource_exhausted, "xz: cannot allocate a decoder");
    while (!ended_) {
      KILN_CHECK(in_->fill(1));
      auto pending = in_->pending();
      stream_.next_in = reinterpret_cast<const std::uint8_t*>(pending.data());
      stream_.avail_in = pending.size();
      stream_.next_out = reinterpret_cast<std::uint8_t*>(buffer.data());
      stream_.avail_out = buffer.size();
      auto code = lzma_code(&stream_, pending.empty() ? LZMA_FINISH : LZMA_RUN);
      in_->consume(pending.size() - stream_.avail_in);
      auto made = buffer.size() - stream_.avail_out;
      KILN_CHECK(in_->account({buffer.data(), made}));
      switch (code) {
        case LZMA_OK: break;
        case LZMA_STREAM_END: ended_ = true; break;
        case LZMA_BUF_ERROR: return corrupt("xz: unexpected EOF");
        case LZMA_MEMLIMIT_ERROR:
          return make_error(errc::resource_exhausted, "xz: needs " + std::to_string(lzma_memusage(&stream_)) +
                                                          " bytes of memory, more than " +
                                                          std::to_string(configs::xz_memory_max));
        case LZMA_MEM_ERROR: return make_error(errc::resource_exhausted, "xz: out of memory");
        default: return corrupt("xz: corrupt input (error " + std::to_string(code) + ")");
      }
      if (made > 0) return made;
    }
    return std::size_t{0};
  }

 private:
  std::shared_ptr<decompress_input> in_;
  lzma_stream stream_ = LZMA_STREAM_INIT;
  bool ready_ = false;
  bool ended_ = false;
};

class bzip2_reader final : public byte_source {
 public:
  explicit bzip2_reader(std::shared_ptr<decompress_input> in) : in_(std::move(in)) {}
  ~bzip2_reader() override { end_stream(); }

  result<std::size_t> read(std::span<char> buffer) override {
    while (true) {
      KILN_CHECK(in_->fill(1));
      auto pending = in_->pending();
      if (!open_) {
        if (pending.empty()) return std::size_t{0};
        if (BZ2_bzDecompressInit(&stream_, 0, 0) != BZ_OK)
          return make_error(errc::resource_exhausted, "bzip2: cannot allocate a decoder");
        open_ = true;
      }
      stream_.next_in = const_cast<char*>(pending.data());
      stream_.avail_in = static_cast<unsigned>(pending.size());
      stream_.next_out = buffer.data();
      stream_.avail_out = static_cast<unsigned>(std::min<std::size_t>(buffer.size(), 1u << 30));
      auto room = stream_.avail_out;
      auto code = BZ2_bzDecompress(&stream_);
      in_->consume(pending.size() - stream_.avail_in);
      std::size_t made = room - stream_.avail_out;
      KILN_CHECK(in_->account({buffer.data(), made}));
      if (code == BZ_STREAM_END) end_stream();  // another may follow
      else if (code == BZ_MEM_ERROR) return make_error(errc::resource_exhausted, "bzip2: out of memory");
      else if (code != BZ_OK) return corrupt("bzip2: corrupt input (error " + std::to_string(code) + ")");
      else if (pending.empty() && made == 0) return corrupt("bzip2: unexpected EOF");
      if (made > 0) return made;
    }
  }

 private:
  void end_stream() {
    if (open_) BZ2_bzDecompressEnd(&stream_);
    open_ = false;
    stream_ = {};
  }

  std::shared_ptr<decompress_input> in_;
  bz_stream stream_{};
  bool open_ = false;
};

}  // namespace

std::unique_ptr<byte_source> make_archive_decoder(const std::shared_ptr<decompress_input>& in) {
  auto magic = in->pending();
  if (magic.starts_with(std::string_view("\xfd\x37zXZ\0", 6))) return std::make_unique<xz_reader>(in);
  if (magic.starts_with("BZh")) return std::make_unique<bzip2_reader>(in);
  return nullptr;
}

}  // namespace kiln::store
