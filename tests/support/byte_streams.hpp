// Sinks and sources over strings.
#pragma once

#include <algorithm>
#include <cstring>
#include <string>

#include "store/files/stream.hpp"

namespace kiln::test {

struct string_sink : store::byte_sink {
  std::string bytes;
  status write(std::string_view b) override {
    bytes += b;
    return {};
  }
  status finish() override { return {}; }
};

struct string_source : store::byte_source {
  explicit string_source(std::string b, std::size_t step = SIZE_MAX) : bytes(std::move(b)), step_(step) {}
  result<std::size_t> read(std::span<char> buffer) override {
    std::size_t n = std::min({buffer.size(), step_, bytes.size() - at_});
    std::memcpy(buffer.data(), bytes.data() + at_, n);
    at_ += n;
    return n;
  }
  std::string bytes;

 private:
  std::size_t step_, at_ = 0;
};

}  // namespace kiln::test
