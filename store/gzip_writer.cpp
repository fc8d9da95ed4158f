// Parallel gzip: fixed blocks of input, each compressed on its own by libdeflate, joined by empty stored
// blocks into one member. The bytes depend on input and level only. One caller thread; workers are private.
#include <libdeflate.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "configs/codec.hpp"
#include "store/codec_parts.hpp"

namespace kiln::store {
namespace {

struct deflater {
  explicit deflater(int level) : handle(libdeflate_alloc_compressor(level)) {}
  ~deflater() { libdeflate_free_compressor(handle); }
  deflater(const deflater&) = delete;
  deflater& operator=(const deflater&) = delete;
  libdeflate_compressor* handle;
};

struct piece {
  std::string input;
  std::vector<unsigned char> output;
  std::size_t size = 0;
  bool last = false;
  bool done = false;
  status outcome;
};

void compress_piece(deflater& d, piece& p) {
  if (d.handle == nullptr) {
    p.outcome = make_error(errc::resource_exhausted, "gzip: cannot allocate a compressor");
    return;
  }
  p.output.resize(libdeflate_deflate_compress_bound(d.handle, p.input.size()) + deflate_slack);
  p.size = libdeflate_deflate_compress(d.handle, p.input.data(), p.input.size(), p.output.data(),
                                       p.output.size() - deflate_slack);
  if (p.size == 0) {
    p.outcome = make_error(errc::internal, "gzip: compression failed");
  } else if (!p.last) {
    auto joined = reopen_deflate(p.output, p.size);
    if (joined.ok()) p.size = *joined;
    else p.outcome = std::move(joined).error();
  }
}

class gzip_writer : public byte_sink {
 public:
  gzip_writer(int level, byte_sink& out, unsigned threads) : level_(level), out_(out), threads_(threads) {}

  ~gzip_writer() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (auto& t : workers_) t.join();
  }

  status write(std::string_view bytes) override {
    if (!failure_.ok()) return failure_;
    crc_ = libdeflate_crc32(crc_, bytes.data(), bytes.size());
    length_ += bytes.size();
    while (!bytes.empty()) {
      if (current_ == nullptr) current_ = fresh_piece();
      if (current_->input.size() == configs::gzip_block_size) {
        KILN_CHECK(submit());
        continue;
      }
      std::size_t n = std::min(bytes.size(), configs::gzip_block_size - current_->input.size());
      current_->input.append(bytes.substr(0, n));
      bytes.remove_prefix(n);
    }
    return {};
  }

  status finish() override {
    if (!failure_.ok()) return failure_;
    if (current_ == nullptr) current_ = fresh_piece();
    current_->last = true;
    KILN_CHECK(submit());
    while (!order_.empty()) KILN_CHECK(drain_front());
    std::string trailer(8, '\0');
    for (int i = 0; i < 4; ++i) {
      trailer[i] = static_cast<char>(crc_ >> (8 * i));
      trailer[4 + i] = static_cast<char>(length_ >> (8 * i));
    }
    return emit(trailer);
  }

 private:
  std::unique_ptr<piece> fresh_piece() {
    if (spare_.empty()) return std::make_unique<piece>();
    auto p = std::move(spare_.back());
    spare_.pop_back();
    p->input.clear();
    p->size = 0;
    p->last = p->done = false;
    return p;
  }

  /// Hands the current piece to the workers, or compresses it here when there is nothing to gain.
  status submit() {
    bool alone = threads_ <= 1 || (current_->last && order_.empty());
    if (alone) {
      if (!own_) own_ = std::make_unique<deflater>(level_);
      compress_piece(*own_, *current_);
      current_->done = true;
      order_.push_back(std::move(current_));
      return drain_front();
    }
    if (workers_.size() < threads_) workers_.emplace_back([this] { work(); });
    {
      std::lock_guard lock(mutex_);
      queue_.push_back(current_.get());
    }
    wake_.notify_one();
    order_.push_back(std::move(current_));
    while (order_.size() > 2 * threads_) KILN_CHECK(drain_front());
    return {};
  }

  status drain_front() {
    piece& p = *order_.front();
    if (!workers_.empty()) {
      std::unique_lock lock(mutex_);
      ready_.wait(lock, [&] { return p.done; });
    }
    if (!p.outcome.ok()) return failure_ = p.outcome;
    KILN_CHECK(emit({reinterpret_cast<const char*>(p.output.data()), p.size}));
    spare_.push_back(std::move(order_.front()));
    order_.pop_front();
    return {};
  }

  status emit(std::string_view bytes) {
    if (!header_written_) {
      header_written_ = true;
      // Deflate, no name, no time, unknown system: nothing of this machine gets into the bytes.
      static constexpr char header[10] = {'\x1f', '\x8b', 8, 0, 0, 0, 0, 0, 0, '\xff'};
      if (auto s = out_.write({header, sizeof header}); !s.ok()) return failure_ = s;
    }
    if (auto s = out_.write(bytes); !s.ok()) return failure_ = s;
    return {};
  }

  void work() {
    deflater d(level_);
    std::unique_lock lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
      if (stopping_) return;
      piece* p = queue_.front();
      queue_.pop_front();
      lock.unlock();
      compress_piece(d, *p);
      lock.lock();
      p->done = true;
      ready_.notify_one();
    }
  }

  const int level_;
  byte_sink& out_;
  const std::size_t threads_;
  status failure_;
  std::uint32_t crc_ = 0;
  std::uint64_t length_ = 0;
  bool header_written_ = false;
  std::unique_ptr<deflater> own_;
  std::unique_ptr<piece> current_;
  std::deque<std::unique_ptr<piece>> order_;  // submitted, in output order; touched by the caller only
  std::vector<std::unique_ptr<piece>> spare_;
  std::mutex mutex_;
  std::condition_variable wake_, ready_;
  std::deque<piece*> queue_;
  bool stopping_ = false;
  std::vector<std::thread> workers_;  // last: they use everything above
};

}  // namespace

std::unique_ptr<byte_sink> make_gzip_writer(int level, byte_sink& out, unsigned threads) {
  return std::make_unique<gzip_writer>(level, out, threads);
}

}  // namespace kiln::store
