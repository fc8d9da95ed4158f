// Parallel gzip: fixed blocks of input, each a gzip member of its own (RFC 1952 section 2.2 joins members by
// putting one behind the other; every eStargz layer is made so). The bytes depend on input and level only.
// One caller thread; workers are private.
#include <libdeflate.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <limits>
#include <mutex>
#include <vector>

#include "base/thread.hpp"
#include "configs/codec.hpp"
#include "store/archive/codec_parts.hpp"

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
  std::vector<char> output;
  std::size_t size = 0;
  bool done = false;
  status outcome;
};

void compress_piece(deflater& d, piece& p) {
  if (d.handle == nullptr) {
    p.outcome = make_error(errc::resource_exhausted, "gzip: cannot allocate a compressor");
    return;
  }
  p.output.resize(libdeflate_gzip_compress_bound(d.handle, p.input.size()));
  p.size =
      libdeflate_gzip_compress(d.handle, p.input.data(), p.input.size(), p.output.data(), p.output.size());
  if (p.size == 0) p.outcome = make_error(errc::internal, "gzip: compression failed");
}

class parallel_gzip_writer final : public gzip_writer {
 public:
  parallel_gzip_writer(int level, byte_sink& out, unsigned threads)
      : level_(level), out_(out), threads_(threads) {}

  ~parallel_gzip_writer() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    workers_.clear();
  }

  status write(std::string_view bytes) override {
    if (!failure_.ok()) return failure_;
    while (!bytes.empty()) {
      if (current_ == nullptr) current_ = fresh_piece();
      if (current_->input.size() == limit_) {
        KILN_CHECK(submit());
        continue;
      }
      std::size_t n = std::min(bytes.size(), limit_ - current_->input.size());
      current_->input.append(bytes.substr(0, n));
      bytes.remove_prefix(n);
    }
    return {};
  }

  status finish() override {
    if (!failure_.ok()) return failure_;
    finishing_ = true;
    if (current_ == nullptr && submitted_ == 0)
      current_ = fresh_piece();  // there was no input: one empty member
    if (current_) KILN_CHECK(submit());
    return drain();
  }

  result<std::size_t> cut(length of_next) override {
    if (!failure_.ok()) return failure_.error();
    if (current_) KILN_CHECK(submit());
    limit_ = of_next == length::any ? std::numeric_limits<std::size_t>::max() : configs::gzip_block_size;
    return submitted_;
  }

  status drain() override {
    while (!order_.empty()) KILN_CHECK(drain_front());
    return failure_;
  }

  const std::vector<std::int64_t>& members() const override { return members_; }

 private:
  std::unique_ptr<piece> fresh_piece() {
    if (spare_.empty()) return std::make_unique<piece>();
    auto p = std::move(spare_.back());
    spare_.pop_back();
    p->input.clear();
    p->size = 0;
    p->done = false;
    return p;
  }

  /// Hands the current piece to the workers, or compresses it here when there is nothing to gain.
  status submit() {
    ++submitted_;
    bool alone = threads_ <= 1 || (finishing_ && order_.empty()) || !has_worker();
    if (alone) {
      if (!own_) own_ = std::make_unique<deflater>(level_);
      compress_piece(*own_, *current_);
      current_->done = true;
      order_.push_back(std::move(current_));
      return drain_front();
    }
    {
      std::lock_guard lock(mutex_);
      queue_.push_back(current_.get());
    }
    wake_.notify_one();
    order_.push_back(std::move(current_));
    while (order_.size() > 2 * threads_) KILN_CHECK(drain_front());
    return {};
  }

  /// One more, while there may be more; false when there is none at all.
  bool has_worker() {
    if (workers_.size() < threads_) {
      auto one = thread::start("gzip", [this] { work(); });
      if (one.ok()) {
        workers_.push_back(*std::move(one));
      } else {
        threads_ = workers_.size();
      }
    }
    return !workers_.empty();
  }

  status drain_front() {
    piece& p = *order_.front();
    if (!workers_.empty()) {
      std::unique_lock lock(mutex_);
      ready_.wait(lock, [&] { return p.done; });
    }
    if (!p.outcome.ok()) return failure_ = p.outcome;
    if (auto s = out_.write({p.output.data(), p.size}); !s.ok()) return failure_ = s;
    members_.push_back(written_);
    written_ += static_cast<std::int64_t>(p.size);
    spare_.push_back(std::move(order_.front()));
    order_.pop_front();
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
  std::size_t threads_;
  status failure_;
  bool finishing_ = false;
  std::size_t limit_ = configs::gzip_block_size;  // bytes of a member's input
  std::size_t submitted_ = 0;
  std::int64_t written_ = 0;
  std::vector<std::int64_t> members_;
  std::unique_ptr<deflater> own_;
  std::unique_ptr<piece> current_;
  std::deque<std::unique_ptr<piece>> order_;  // submitted, in output order; touched by the caller only
  std::vector<std::unique_ptr<piece>> spare_;
  std::mutex mutex_;
  std::condition_variable wake_, ready_;
  std::deque<piece*> queue_;
  bool stopping_ = false;
  std::vector<thread> workers_;  // last: they use everything above
};

}  // namespace

std::unique_ptr<gzip_writer> make_gzip_writer(int level, byte_sink& out, unsigned threads) {
  return std::make_unique<parallel_gzip_writer>(level, out, threads);
}

}  // namespace kiln::store
