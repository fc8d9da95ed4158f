// Sinks that stand before another: what an archive passes on its way into a blob. Not thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/digest.hpp"
#include "messages/job.hpp"
#include "store/files/stream.hpp"

namespace kiln::store {

/// What passes through is hashed and counted.
class hashing_sink final : public byte_sink {
 public:
  explicit hashing_sink(byte_sink& out) : out_(out) {}
  status write(std::string_view bytes) override {
    hasher_.update(bytes);
    size_ += static_cast<std::int64_t>(bytes.size());
    return out_.write(bytes);
  }
  status finish() override { return out_.finish(); }
  digest sum() { return hasher_.finish(); }
  std::int64_t size() const { return size_; }

 private:
  byte_sink& out_;
  sha256_hasher hasher_;
  std::int64_t size_ = 0;
};

/// Small writes, as tar writers make them, gathered into large ones. finish() passes the rest on.
class buffered_sink final : public byte_sink {
 public:
  buffered_sink(byte_sink& out, std::size_t size) : out_(out), size_(size) { buffer_.reserve(size); }
  status write(std::string_view bytes) override {
    if (buffer_.size() + bytes.size() > size_) KILN_CHECK(flush());
    if (bytes.size() >= size_) return out_.write(bytes);
    buffer_ += bytes;
    return {};
  }
  status finish() override { return flush(); }

 private:
  status flush() {
    if (buffer_.empty()) return {};
    auto s = out_.write(buffer_);
    buffer_.clear();
    return s;
  }
  byte_sink& out_;
  std::size_t size_;
  std::string buffer_;
};

/// Cancellation between chunks.
class cancellable_sink final : public byte_sink {
 public:
  cancellable_sink(byte_sink& out, const job_context& job) : out_(out), job_(job) {}
  status write(std::string_view bytes) override {
    KILN_CHECK(job_.check());
    return out_.write(bytes);
  }
  status finish() override { return out_.finish(); }

 private:
  byte_sink& out_;
  const job_context& job_;
};

}  // namespace kiln::store
