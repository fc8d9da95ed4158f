// Where a tar header has its fields, and how its further records are written. Pure.
// Source: POSIX.1-2017, pax, "ustar Interchange Format".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace kiln::store::tar {

constexpr std::size_t block_size = 512;
using block = std::array<char, block_size>;

/// In bytes.
struct field {
  std::size_t offset, width;
};
constexpr field f_name{0, 100}, f_mode{100, 8}, f_uid{108, 8}, f_gid{116, 8}, f_size{124, 12},
    f_mtime{136, 12}, f_checksum{148, 8}, f_type{156, 1}, f_link{157, 100}, f_magic{257, 6},
    f_version{263, 2}, f_major{329, 8}, f_minor{337, 8}, f_prefix{345, 155};

/// A field's bytes, of a header or what is laid out as one.
inline std::string_view raw(std::span<const char> header, field f) {
  return {header.data() + f.offset, f.width};
}
inline std::string_view until_nul(std::string_view text) { return text.substr(0, text.find('\0')); }
/// A number in a header's field, as Go reads it: octal digits between blanks and zeros; nothing when it is
/// none.
std::optional<std::int64_t> octal(std::string_view digits);
/// The same, or GNU's two's complement with the first bit set.
std::optional<std::int64_t> number(std::string_view digits);

/// What so many bytes of content take, filled up to whole blocks.
template <class Size>
constexpr Size padded(Size bytes) {
  return (bytes + block_size - 1) / block_size * block_size;
}

/// "<length> <key>=<value>\n", where the length counts itself.
inline std::string pax_record(std::string_view key, std::string_view value) {
  auto size = key.size() + value.size() + 3;
  auto total = size + std::to_string(size).size();
  if (std::to_string(total).size() + size != total) total = size + std::to_string(total).size();
  std::string text = std::to_string(total) + " ";
  text += key;
  text += '=';
  text += value;
  text += '\n';
  return text;
}

}  // namespace kiln::store::tar
