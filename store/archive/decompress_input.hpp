// What the decoders of store/archive/codec.hpp read from: the compressed bytes with look-ahead, and the
// account of what they became. Private to store/.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "configs/codec.hpp"
#include "store/archive/codec.hpp"
#include "store/files/file_data.hpp"

namespace kiln::store {

class decompress_input {
 public:
  decompress_input(std::unique_ptr<byte_source> in, decompress_options options)
      : in_(std::move(in)), options_(options), buffer_(configs::decompress_buffer_size) {}

  const decompress_options& options() const { return options_; }
  /// Unread bytes at hand.
  std::string_view pending() const { return {buffer_.data() + begin_, end_ - begin_}; }
  void consume(std::size_t n) { begin_ += n; }
  /// Gets at least `wanted` bytes at hand unless the input ends before.
  status fill(std::size_t wanted) {
    if (pending().size() >= wanted || eof_) return {};
    std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
    end_ -= begin_;
    begin_ = 0;
    while (end_ < wanted && !eof_) {
      KILN_TRY(std::size_t n, in_->read({buffer_.data() + end_, buffer_.size() - end_}));
      if (n == 0) eof_ = true;
      end_ += n;
      taken_ += static_cast<long long>(n);
    }
    return {};
  }
  /// Every decoder tells what it has made. Zeros are free: they become holes.
  status account(std::string_view produced) {
    all_ += static_cast<long long>(produced.size());
    if (all_ > configs::decompress_total_max)
      return make_error(
          errc::resource_exhausted,
          "compressed data expands to more than " + std::to_string(configs::decompress_total_max) + " bytes");
    if (is_zero(produced)) return {};
    made_ += static_cast<long long>(produced.size());
    if (made_ <= options_.free_output ||
        static_cast<double>(made_) <= options_.ratio_max * static_cast<double>(std::max(taken_, 1LL)))
      return {};
    return make_error(errc::resource_exhausted,
                      "compressed data expands to " + std::to_string(made_) + " bytes, more than " +
                          std::to_string(static_cast<long long>(options_.ratio_max)) +
                          " times its size and than " + std::to_string(options_.free_output) +
                          " bytes (decompression bomb)");
  }

 private:
  std::unique_ptr<byte_source> in_;
  decompress_options options_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0, end_ = 0;
  bool eof_ = false;
  long long taken_ = 0, made_ = 0, all_ = 0;
};

}  // namespace kiln::store
