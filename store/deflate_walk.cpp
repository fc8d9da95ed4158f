// Walks a raw deflate stream without producing its output, to find where its last block begins and ends.
// That makes independently compressed pieces joinable: compressors such as libdeflate only write whole
// streams. Knows nothing of gzip, threads or tars. Source: RFC 1951.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "store/codec_parts.hpp"

namespace kiln::store {
namespace {

constexpr int max_code_bits = 15;
constexpr std::uint8_t kind_literal = 0, kind_end = 1, kind_copy = 2, kind_long = 3, kind_bad = 4;

struct entry {
  std::uint8_t bits = 0;   // of the code
  std::uint8_t extra = 0;  // bits that follow the code
  std::uint8_t kind = kind_bad;
};

constexpr std::uint8_t length_extra[29] = {0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2,
                                           2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0};

entry literal_entry(int symbol, int bits) {
  auto b = static_cast<std::uint8_t>(bits);
  if (symbol < 256) return {b, 0, kind_literal};
  if (symbol == 256) return {b, 0, kind_end};
  if (symbol < 286) return {b, length_extra[symbol - 257], kind_copy};
  return {b, 0, kind_bad};
}

entry distance_entry(int symbol, int bits) {
  auto b = static_cast<std::uint8_t>(bits);
  if (symbol < 30) return {b, static_cast<std::uint8_t>(symbol < 4 ? 0 : symbol / 2 - 1), kind_copy};
  return {b, 0, kind_bad};
}

/// A canonical Huffman code: a table for short codes, counting for the rest.
template <int TableBits, class MakeEntry>
class code {
 public:
  explicit code(MakeEntry make) : make_(make) {}

  /// False when the lengths over-subscribe the code.
  bool build(const std::uint8_t* lengths, int n) {
    count_.fill(0);
    for (int i = 0; i < n; ++i) ++count_[lengths[i]];
    count_[0] = 0;
    int left = 1;
    std::array<std::uint32_t, max_code_bits + 2> next{};
    std::array<int, max_code_bits + 2> offset{};
    std::uint32_t c = 0;
    for (int bits = 1; bits <= max_code_bits; ++bits) {
      left = left * 2 - count_[bits];
      if (left < 0) return false;
      c = (c + static_cast<std::uint32_t>(count_[bits - 1])) << 1;
      next[bits] = c;
      offset[bits + 1] = offset[bits] + count_[bits];
    }
    table_.fill({});
    for (int symbol = 0; symbol < n; ++symbol) {
      int bits = lengths[symbol];
      if (bits == 0) continue;
      sorted_[offset[bits]++] = static_cast<std::uint16_t>(symbol);
      std::uint32_t reversed = reverse(next[bits]++, bits);
      if (bits <= TableBits) {
        entry e = make_(symbol, bits);
        for (std::uint32_t i = reversed; i < table_.size(); i += 1u << bits) table_[i] = e;
      } else {
        table_[reversed & (table_.size() - 1)].kind = kind_long;
      }
    }
    return true;
  }

  entry look_up(std::uint64_t window) const {
    entry e = table_[window & (table_.size() - 1)];
    return e.kind == kind_long ? slow(window) : e;
  }

 private:
  static std::uint32_t reverse(std::uint32_t v, int bits) {
    std::uint32_t out = 0;
    for (int i = 0; i < bits; ++i, v >>= 1) out = (out << 1) | (v & 1);
    return out;
  }

  entry slow(std::uint64_t window) const {
    std::int32_t c = 0, first = 0, index = 0;
    for (int bits = 1; bits <= max_code_bits; ++bits, window >>= 1) {
      c |= static_cast<std::int32_t>(window & 1);
      int n = count_[bits];
      if (c - n < first) return make_(sorted_[index + (c - first)], bits);
      index += n;
      first = (first + n) << 1;
      c <<= 1;
    }
    return {};
  }

  MakeEntry make_;
  std::array<entry, 1u << TableBits> table_{};
  std::array<int, max_code_bits + 1> count_{};
  std::array<std::uint16_t, 320> sorted_{};
};

class walker {
 public:
  /// Reads past `size` by up to eight bytes (the caller's slack).
  walker(const unsigned char* data, std::size_t size) : data_(data), size_(size) {}

  /// Walks to the end of the final block; false when the stream is bad.
  bool run() {
    for (;;) {
      last_block_ = bit_;
      std::uint64_t head = window();
      bool final = head & 1;
      unsigned type = (head >> 1) & 3;
      bit_ += 3;
      bool ok = type == 0 ? stored() : type == 1 ? fixed() : type == 2 && dynamic();
      if (!ok || bit_ > size_ * 8) return false;
      if (final) return true;
    }
  }
  std::size_t last_block() const { return last_block_; }  // bit offset of its header
  std::size_t end() const { return bit_; }                // bit offset behind it

 private:
  /// At least 56 bits from the present position.
  std::uint64_t window() const {
    std::size_t byte = std::min(bit_ / 8, size_);
    std::uint64_t w;
    std::memcpy(&w, data_ + byte, sizeof w);
    return w >> (bit_ % 8);
  }

  bool stored() {
    bit_ = (bit_ + 7) / 8 * 8;
    std::size_t byte = bit_ / 8;
    if (byte + 4 > size_) return false;
    std::size_t n = data_[byte] | (data_[byte + 1] << 8);
    bit_ += (4 + n) * 8;
    return true;
  }

  bool fixed() {
    std::array<std::uint8_t, 288> l;
    for (int i = 0; i < 288; ++i) l[i] = i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8;
    std::array<std::uint8_t, 30> d;
    d.fill(5);
    return literals_.build(l.data(), 288) && distances_.build(d.data(), 30) && symbols();
  }

  bool dynamic() {
    static constexpr std::uint8_t order[19] = {16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                               11, 4,  12, 3, 13, 2, 14, 1, 15};
    std::uint64_t w = window();
    int n_literals = static_cast<int>(w & 31) + 257, n_distances = static_cast<int>((w >> 5) & 31) + 1;
    int n_codes = static_cast<int>((w >> 10) & 15) + 4;
    bit_ += 14;
    if (n_literals > 286) return false;
    std::array<std::uint8_t, 19> meta{};
    for (int i = 0; i < n_codes; ++i, bit_ += 3) meta[order[i]] = window() & 7;
    // The symbol itself is the kind, moved clear of the kinds that have a meaning.
    auto meta_entry = [](int symbol, int bits) {
      return entry{static_cast<std::uint8_t>(bits), 0, static_cast<std::uint8_t>(symbol + 8)};
    };
    code<7, decltype(meta_entry)> lengths_code(meta_entry);
    if (!lengths_code.build(meta.data(), 19)) return false;
    std::array<std::uint8_t, 320> lengths{};
    int i = 0;
    while (i < n_literals + n_distances) {
      w = window();
      entry e = lengths_code.look_up(w);
      if (e.kind < 8 || bit_ > size_ * 8) return false;
      bit_ += e.bits;
      w >>= e.bits;
      int symbol = e.kind - 8;
      if (symbol < 16) {
        lengths[i++] = static_cast<std::uint8_t>(symbol);
        continue;
      }
      std::uint8_t value = 0;
      int repeat;
      if (symbol == 16) {
        if (i == 0) return false;
        value = lengths[i - 1];
        repeat = 3 + static_cast<int>(w & 3), bit_ += 2;
      } else if (symbol == 17) {
        repeat = 3 + static_cast<int>(w & 7), bit_ += 3;
      } else {
        repeat = 11 + static_cast<int>(w & 127), bit_ += 7;
      }
      if (i + repeat > n_literals + n_distances) return false;
      while (repeat-- > 0) lengths[i++] = value;
    }
    return literals_.build(lengths.data(), n_literals) &&
           distances_.build(lengths.data() + n_literals, n_distances) && symbols();
  }

  bool symbols() {
    const std::size_t limit = size_ * 8;
    while (bit_ <= limit) {
      std::uint64_t w = window();
      entry e = literals_.look_up(w);
      // Three short literals and one more look-up fit one window.
      for (int i = 0; i < 3 && e.kind == kind_literal && e.bits <= 11; ++i) {
        bit_ += e.bits;
        w >>= e.bits;
        e = literals_.look_up(w);
      }
      if (e.kind == kind_copy) {
        bit_ += e.bits + e.extra;
        entry d = distances_.look_up(window());
        if (d.kind != kind_copy) return false;
        bit_ += d.bits + d.extra;
      } else if (e.kind == kind_literal) {
        bit_ += e.bits;
      } else if (e.kind == kind_end) {
        bit_ += e.bits;
        return true;
      } else {
        return false;
      }
    }
    return false;
  }

  const unsigned char* data_;
  std::size_t size_;
  std::size_t bit_ = 0;
  std::size_t last_block_ = 0;
  code<11, decltype(&literal_entry)> literals_{&literal_entry};
  code<9, decltype(&distance_entry)> distances_{&distance_entry};
};

}  // namespace

result<std::size_t> reopen_deflate(std::vector<unsigned char>& stream, std::size_t size) {
  if (stream.size() < size + deflate_slack)
    return make_error(errc::internal, "deflate: no room to join compressed pieces");
  walker w(stream.data(), size);
  if (!w.run()) return make_error(errc::internal, "deflate: the compressor wrote an invalid stream");
  stream[w.last_block() / 8] &= static_cast<unsigned char>(~(1u << (w.last_block() % 8)));
  // An empty stored block: three zero bits, padding to a byte, length 0 and its complement.
  std::size_t bit = w.end();
  if (bit % 8 != 0) stream[bit / 8] &= static_cast<unsigned char>((1u << (bit % 8)) - 1);
  std::size_t byte = (bit + 3 + 7) / 8;
  for (std::size_t i = (bit + 7) / 8; i < byte; ++i) stream[i] = 0;
  static constexpr unsigned char empty[4] = {0, 0, 0xff, 0xff};
  std::memcpy(stream.data() + byte, empty, 4);
  return byte + 4;
}

}  // namespace kiln::store
