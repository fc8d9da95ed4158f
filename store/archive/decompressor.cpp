// Decompression of gzip (ISA-L) and zstd streams and of what archives use, found by their magic, on a thread
// of its own so that inflating and whatever the reader does overlap. One reader thread; the input is read by
// the helper.
#include <isa-l/igzip_lib.h>
#include <zstd.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <vector>

#include "base/thread.hpp"
#include "configs/codec.hpp"
#include "store/archive/codec_parts.hpp"

namespace kiln::store {
namespace {

error truncated(std::string_view codec) {
  return make_error(errc::data_loss, std::string(codec) + ": unexpected EOF");
}

class plain_reader : public byte_source {
 public:
  explicit plain_reader(std::shared_ptr<decompress_input> in) : in_(std::move(in)) {}
  result<std::size_t> read(std::span<char> buffer) override {
    KILN_CHECK(in_->fill(1));
    std::size_t n = in_->pending().copy(buffer.data(), buffer.size());
    in_->consume(n);
    return n;
  }

 private:
  std::shared_ptr<decompress_input> in_;
};

class gzip_reader : public byte_source {
 public:
  explicit gzip_reader(std::shared_ptr<decompress_input> in)
      : in_(std::move(in)), state_(std::make_unique<inflate_state>()) {
    begin_member();
  }

  result<std::size_t> read(std::span<char> buffer) override {
    KILN_CHECK(tail_);
    while (!ended_) {
      KILN_CHECK(in_->fill(1));
      if (in_->pending().empty() && input_dry_) return truncated("gzip");
      std::string_view pending = in_->pending();
      auto before_in = static_cast<std::uint32_t>(pending.size());
      auto before_out = static_cast<std::uint32_t>(std::min<std::size_t>(buffer.size(), 1 << 30));
      state_->next_in = reinterpret_cast<std::uint8_t*>(const_cast<char*>(pending.data()));
      state_->avail_in = before_in;
      state_->next_out = reinterpret_cast<std::uint8_t*>(buffer.data());
      state_->avail_out = before_out;
      int rc = isal_inflate(state_.get());
      std::size_t used = before_in - state_->avail_in, made = before_out - state_->avail_out;
      in_->consume(used);
      KILN_CHECK(in_->account({buffer.data(), made}));
      if (rc == ISAL_INCORRECT_CHECKSUM) return make_error(errc::data_loss, "gzip: invalid checksum");
      if (rc == ISAL_INVALID_WRAPPER || rc == ISAL_UNSUPPORTED_METHOD)
        return make_error(errc::data_loss, "gzip: invalid header");
      if (rc != ISAL_DECOMP_OK && rc != ISAL_END_INPUT && rc != ISAL_OUT_OVERFLOW)
        return make_error(errc::data_loss, "gzip: corrupt input (deflate error " + std::to_string(rc) + ")");
      if (state_->block_state == ISAL_BLOCK_FINISH) {
        // What stands behind a member takes nothing from its bytes: an archive that ends in it is whole.
        tail_ = next_member();
        if (!tail_.ok() && made == 0) return tail_.error();
      } else {
        input_dry_ = before_in == 0 && made == 0;
      }
      if (made > 0) return made;
    }
    return std::size_t{0};
  }

 private:
  void begin_member() {
    isal_inflate_init(state_.get());
    state_->crc_flag = ISAL_GZIP;
  }

  /// Another member, the end, or zero padding as some archivers leave.
  status next_member() {
    KILN_CHECK(in_->fill(2));
    std::string_view p = in_->pending();
    if (p.size() >= 2 && p[0] == '\x1f' && p[1] == '\x8b') {
      begin_member();
      return {};
    }
    while (!p.empty()) {
      if (p.find_first_not_of('\0') != p.npos) return make_error(errc::data_loss, "gzip: invalid header");
      in_->consume(p.size());
      KILN_CHECK(in_->fill(1));
      p = in_->pending();
    }
    ended_ = true;
    return {};
  }

  std::shared_ptr<decompress_input> in_;
  std::unique_ptr<inflate_state> state_;
  bool input_dry_ = false;  // the last call had no input and made nothing
  bool ended_ = false;
  status tail_;  // what the next read says
};

class zstd_reader : public byte_source {
 public:
  explicit zstd_reader(std::shared_ptr<decompress_input> in)
      : in_(std::move(in)), context_(ZSTD_createDCtx()) {
    if (context_) ZSTD_DCtx_setParameter(context_, ZSTD_d_windowLogMax, configs::zstd_accepted_window_log);
  }
  ~zstd_reader() override { ZSTD_freeDCtx(context_); }

  result<std::size_t> read(std::span<char> buffer) override {
    if (!context_) return make_error(errc::resource_exhausted, "zstd: cannot allocate a decompressor");
    for (;;) {
      KILN_CHECK(in_->fill(1));
      std::string_view pending = in_->pending();
      if (pending.empty() && between_frames_) return std::size_t{0};
      ZSTD_inBuffer in{pending.data(), pending.size(), 0};
      ZSTD_outBuffer out{buffer.data(), buffer.size(), 0};
      std::size_t rc = ZSTD_decompressStream(context_, &out, &in);
      if (ZSTD_isError(rc)) return make_error(errc::data_loss, std::string("zstd: ") + ZSTD_getErrorName(rc));
      in_->consume(in.pos);
      KILN_CHECK(in_->account({buffer.data(), out.pos}));
      between_frames_ = rc == 0;
      if (out.pos > 0) return out.pos;
      if (pending.empty() && !between_frames_) return truncated("zstd");
    }
  }

 private:
  std::shared_ptr<decompress_input> in_;
  ZSTD_DCtx* context_;
  bool between_frames_ = false;
};

/// Runs a source on a helper thread, a few buffers ahead of the reader.
class read_ahead : public byte_source {
 public:
  explicit read_ahead(std::unique_ptr<byte_source> in) : in_(std::move(in)) {
    for (auto& s : slots_) s.bytes.resize(configs::decompress_buffer_size);
  }
  /// Before the first read.
  status start() {
    KILN_TRY(thread_, thread::start("decompress", [this] { work(); }));
    return {};
  }
  ~read_ahead() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  result<std::size_t> read(std::span<char> buffer) override {
    slot& s = slots_[read_index_ % slots_.size()];
    if (used_ == 0) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return filled_ > 0; });
    }
    // The slot stays ours until it is handed back below.
    if (!s.outcome.ok()) return s.outcome.error();
    std::size_t n = std::min(buffer.size(), s.size - used_);
    std::memcpy(buffer.data(), s.bytes.data() + used_, n);
    used_ += n;
    if (used_ == s.size && s.size > 0) {
      used_ = 0;
      ++read_index_;
      {
        std::lock_guard lock(mutex_);
        --filled_;
      }
      changed_.notify_all();
    }
    return n;  // a slot of size 0 is the end and is never handed back
  }

 private:
  struct slot {
    std::vector<char> bytes;
    std::size_t size = 0;
    status outcome;
  };

  void work() {
    for (std::size_t index = 0;; ++index) {
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return stopping_ || filled_ < slots_.size(); });
        if (stopping_) return;
      }
      slot& s = slots_[index % slots_.size()];
      s.size = 0;
      while (s.size < s.bytes.size()) {
        auto n = in_->read({s.bytes.data() + s.size, s.bytes.size() - s.size});
        if (!n.ok()) {
          // What came before the error is delivered first, in a slot of its own.
          if (s.size == 0) s.outcome = std::move(n).error();
          else pending_failure_ = std::move(n).error();
          break;
        }
        if (*n == 0) break;
        s.size += *n;
      }
      bool end = s.size == 0;
      publish();
      if (end) return;
      if (!pending_failure_.ok()) {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [&] { return stopping_ || filled_ < slots_.size(); });
        if (stopping_) return;
        slot& last = slots_[(index + 1) % slots_.size()];
        last.size = 0;
        last.outcome = pending_failure_;
        ++filled_;
        changed_.notify_all();
        return;
      }
    }
  }

  void publish() {
    {
      std::lock_guard lock(mutex_);
      ++filled_;
    }
    changed_.notify_all();
  }

  std::unique_ptr<byte_source> in_;  // the helper's
  std::array<slot, configs::decompress_read_ahead> slots_;
  std::size_t read_index_ = 0, used_ = 0;  // the reader's
  status pending_failure_;                 // the helper's
  std::mutex mutex_;
  std::condition_variable changed_;
  std::size_t filled_ = 0;
  bool stopping_ = false;
  thread thread_;
};

/// Looks at the magic when first read, then becomes what it needs to be.
class detecting_reader : public byte_source {
 public:
  detecting_reader(std::unique_ptr<byte_source> in, decompress_options options)
      : in_(std::make_shared<decompress_input>(std::move(in), options)) {}

  result<std::size_t> read(std::span<char> buffer) override {
    if (!reader_) {
      KILN_CHECK(in_->fill(6));
      std::string_view p = in_->pending();
      if (p.starts_with("\x1f\x8b\x08")) KILN_CHECK(read_on(std::make_unique<gzip_reader>(in_)));
      else if (is_zstd(p)) KILN_CHECK(read_on(std::make_unique<zstd_reader>(in_)));
      else if (auto decoder = in_->options().archives ? make_archive_decoder(in_) : nullptr)
        KILN_CHECK(read_on(std::move(decoder)));
      else reader_ = std::make_unique<plain_reader>(in_);
    }
    return reader_->read(buffer);
  }

 private:
  status read_on(std::unique_ptr<byte_source> in) {
    auto ahead = std::make_unique<read_ahead>(std::move(in));
    KILN_CHECK(ahead->start());
    reader_ = std::move(ahead);
    return {};
  }

  /// A frame or a skippable frame. Source: RFC 8878 section 3.1.
  static bool is_zstd(std::string_view p) {
    if (p.starts_with("\x28\xb5\x2f\xfd")) return true;
    return p.size() >= 4 && (p[0] & 0xf0) == 0x50 && p.substr(1, 3) == "\x2a\x4d\x18";
  }

  std::shared_ptr<decompress_input> in_;
  std::unique_ptr<byte_source> reader_;
};

}  // namespace

std::unique_ptr<byte_source> make_decompressor(std::unique_ptr<byte_source> in, decompress_options options) {
  return std::make_unique<detecting_reader>(std::move(in), options);
}

}  // namespace kiln::store
