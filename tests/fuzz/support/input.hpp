// What a fuzz target is given, and how it takes it apart: text by lines, anything else by packets.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace kiln::fuzz {

/// Defined once by each target: feeds one input to what it tries. Whatever the input, it returns.
void try_input(std::string_view input);

/// Ends the process, which the fuzzer counts as a crash and keeps the input of.
void require(bool holds, const char* promise);

/// An input, taken from its front.
class input {
 public:
  explicit input(std::string_view bytes) : rest_(bytes) {}

  bool empty() const { return rest_.empty(); }
  std::uint8_t byte() {
    if (rest_.empty()) return 0;
    auto first = static_cast<std::uint8_t>(rest_.front());
    rest_.remove_prefix(1);
    return first;
  }
  /// Two bytes of length, the low one first, and as many bytes as there are.
  std::string packet() {
    std::size_t low = byte(), high = byte();
    return std::string(take(low | high << 8));
  }
  /// Up to a line feed, which is dropped.
  std::string line() { return section("\n"); }
  /// Up to a separator, which is dropped.
  std::string section(std::string_view separator) {
    auto end = rest_.find(separator);
    std::string text(take(end));
    rest_.remove_prefix(std::min(rest_.size(), separator.size()));
    return text;
  }
  std::string rest() { return std::string(take(std::string_view::npos)); }

 private:
  std::string_view take(std::size_t n) {
    auto front = rest_.substr(0, n);
    rest_.remove_prefix(front.size());
    return front;
  }
  std::string_view rest_;
};

/// "NAME=value" in its parts; the value is empty without "=".
inline std::pair<std::string, std::string> assignment(const std::string& line) {
  auto equals = std::min(line.find('='), line.size());
  return {line.substr(0, equals), line.substr(std::min(equals + 1, line.size()))};
}

}  // namespace kiln::fuzz
