// The beginning of a byte source.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>

#include "store/files/stream.hpp"

namespace kiln::store {

/// The first `size` bytes of a source, or all if it has fewer.
class first_bytes final : public byte_source {
 public:
  first_bytes(std::unique_ptr<byte_source> in, std::int64_t size) : in_(std::move(in)), left_(size) {}
  result<std::size_t> read(std::span<char> buffer) override {
    auto n = std::min<std::int64_t>(left_, static_cast<std::int64_t>(buffer.size()));
    KILN_TRY(std::size_t got, in_->read(buffer.first(static_cast<std::size_t>(n))));
    left_ -= static_cast<std::int64_t>(got);
    return got;
  }

 private:
  std::unique_ptr<byte_source> in_;
  std::int64_t left_;
};

}  // namespace kiln::store
