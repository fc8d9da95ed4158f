// Zstandard compression on libzstd's own workers: always with workers and a fixed job size, so that the
// bytes depend on input and level only. One caller thread.
#include <zstd.h>

#include <algorithm>
#include <vector>

#include "configs/codec.hpp"
#include "store/archive/codec_parts.hpp"

namespace kiln::store {
namespace {

class zstd_writer : public byte_sink {
 public:
  zstd_writer(int level, byte_sink& out, unsigned threads)
      : out_(out), context_(ZSTD_createCCtx()), buffer_(ZSTD_CStreamOutSize()) {
    if (context_ == nullptr) {
      failure_ = make_error(errc::resource_exhausted, "zstd: cannot allocate a compressor");
      return;
    }
    set(ZSTD_c_compressionLevel, level);
    set(ZSTD_c_checksumFlag, 1);
    set(ZSTD_c_nbWorkers, static_cast<int>(threads));
    set(ZSTD_c_jobSize, configs::zstd_job_size);
    set(ZSTD_c_windowLog, configs::zstd_window_log);
    set(ZSTD_c_overlapLog, 9);  // each job sees the whole window before it
    // Layers repeat themselves over megabytes. Measured on 400 MB of libraries: a quarter smaller at level 3,
    // half at level 1, and faster.
    set(ZSTD_c_enableLongDistanceMatching, 1);
  }
  ~zstd_writer() override { ZSTD_freeCCtx(context_); }

  status write(std::string_view bytes) override { return run(bytes, ZSTD_e_continue); }

  status finish() override {
    // Begun without an end in sight, a frame is the same however its input was cut up.
    KILN_CHECK(run({}, ZSTD_e_continue));
    return run({}, ZSTD_e_end);
  }

 private:
  void set(ZSTD_cParameter parameter, int value) {
    std::size_t r = ZSTD_CCtx_setParameter(context_, parameter, value);
    if (ZSTD_isError(r) && failure_.ok())
      failure_ = make_error(errc::internal, std::string("zstd: ") + ZSTD_getErrorName(r));
  }

  status run(std::string_view bytes, ZSTD_EndDirective mode) {
    if (!failure_.ok()) return failure_;
    ZSTD_inBuffer in{bytes.data(), bytes.size(), 0};
    for (;;) {
      ZSTD_outBuffer out{buffer_.data(), buffer_.size(), 0};
      std::size_t left = ZSTD_compressStream2(context_, &out, &in, mode);
      if (ZSTD_isError(left))
        return failure_ = make_error(errc::internal, std::string("zstd: ") + ZSTD_getErrorName(left));
      if (out.pos > 0)
        if (auto s = out_.write({buffer_.data(), out.pos}); !s.ok()) return failure_ = s;
      if (mode == ZSTD_e_continue ? in.pos == in.size : left == 0) return {};
    }
  }

  byte_sink& out_;
  ZSTD_CCtx* context_;
  std::vector<char> buffer_;
  status failure_;
};

}  // namespace

std::unique_ptr<byte_sink> make_zstd_writer(int level, byte_sink& out, unsigned threads) {
  return std::make_unique<zstd_writer>(level, out, threads);
}

}  // namespace kiln::store
