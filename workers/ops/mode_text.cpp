#include "workers/ops/mode_text.hpp"

#include <sys/stat.h>

#include <algorithm>

namespace kiln::workers {

namespace {

constexpr mode_t user_bits = S_IRWXU | S_ISUID;
constexpr mode_t group_bits = S_IRWXG | S_ISGID;
constexpr mode_t other_bits = S_IRWXO;
constexpr mode_t all_bits = 07777;

mode_t spread(mode_t three_bits) { return three_bits << 6 | three_bits << 3 | three_bits; }

}  // namespace

result<mode_change> mode_change::parse(std::string_view text) {
  auto invalid = [&] {
    return make_error(errc::invalid_argument, "invalid mode \"" + std::string(text) + "\"");
  };
  mode_change change;
  if (!text.empty() && text.size() <= 5 &&
      std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '7'; })) {
    step s;
    s.who = all_bits;
    for (char c : text) s.bits = s.bits << 3 | static_cast<mode_t>(c - '0');
    if (s.bits > all_bits) return invalid();
    change.steps_.push_back(s);
    return change;
  }
  std::size_t i = 0;
  for (;;) {
    mode_t who = 0;
    for (; i < text.size() && std::string_view("ugoa").find(text[i]) != std::string_view::npos; ++i)
      who |= text[i] == 'u'   ? user_bits
             : text[i] == 'g' ? group_bits
             : text[i] == 'o' ? other_bits
                              : all_bits;
    bool everybody = who == 0;
    if (everybody) who = all_bits;
    if (i == text.size() || std::string_view("+-=").find(text[i]) == std::string_view::npos) return invalid();
    while (i < text.size() && std::string_view("+-=").find(text[i]) != std::string_view::npos) {
      step s;
      s.op = text[i++];
      s.who = who | (everybody || who == all_bits ? S_ISVTX : 0);
      for (; i < text.size() && text[i] != ',' &&
             std::string_view("+-=").find(text[i]) == std::string_view::npos;
           ++i) {
        switch (text[i]) {
          case 'r': s.bits |= spread(4); break;
          case 'w': s.bits |= spread(2); break;
          case 'x': s.bits |= spread(1); break;
          case 'X': s.execute_if = true; break;
          case 's': s.bits |= S_ISUID | S_ISGID; break;
          case 't':
            s.bits |= S_ISVTX;
            s.who |= S_ISVTX;
            break;
          case 'u':
          case 'g':
          case 'o':
            if (s.copy_from || s.bits || s.execute_if) return invalid();
            s.copy_from = text[i];
            break;
          default: return invalid();
        }
      }
      change.steps_.push_back(s);
    }
    if (i == text.size()) return change;
    if (text[i++] != ',') return invalid();
  }
}

mode_t mode_change::apply(mode_t mode) const {
  bool directory = S_ISDIR(mode);
  auto bits = mode & all_bits;
  for (const auto& s : steps_) {
    auto value = s.bits;
    if (s.copy_from) value = spread(bits >> (s.copy_from == 'u' ? 6 : s.copy_from == 'g' ? 3 : 0) & 7);
    if (s.execute_if && (directory || (bits & 0111))) value |= spread(1);
    value &= s.who;
    if (s.op == '+') bits |= value;
    else if (s.op == '-') bits &= ~value;
    else bits = (bits & ~s.who) | value;
  }
  return bits;
}

}  // namespace kiln::workers
