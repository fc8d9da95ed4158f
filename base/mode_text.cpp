#include "base/mode_text.hpp"

#include <sys/stat.h>

#include <algorithm>

namespace kiln {

namespace {

constexpr mode_t user_bits = S_IRWXU | S_ISUID;
constexpr mode_t group_bits = S_IRWXG | S_ISGID;
constexpr mode_t other_bits = S_IRWXO;
constexpr mode_t permissions = 0777;
constexpr mode_t all_bits = 07777;

error invalid() { return make_error(errc::invalid_argument, "invalid syntax"); }

mode_t spread(mode_t three_bits) { return three_bits << 6 | three_bits << 3 | three_bits; }

bool is_one_of(std::string_view set, std::string_view rest) {
  return !rest.empty() && set.find(rest[0]) != std::string_view::npos;
}

}  // namespace

/// An operator and what follows it, for the classes in `who` (none: everybody).
result<mode_change::step> mode_change::parse_step(std::string_view& rest, mode_t who) {
  bool special = who == 0 || (who & ~other_bits) != 0;  // others have no set-id bits and no sticky one
  step s;
  s.op = rest[0];
  s.who = who == 0 ? user_bits | group_bits | other_bits : who;
  for (rest.remove_prefix(1); is_one_of("rwxXstugo", rest); rest.remove_prefix(1)) {
    switch (rest[0]) {
      case 'r': s.bits |= spread(4); break;
      case 'w': s.bits |= spread(2); break;
      case 'x': s.bits |= spread(1); break;
      case 'X':
        // What is taken away need not be looked for.
        if (s.op == '-') s.bits |= spread(1);
        else s.execute_if = true;
        break;
      case 's':
        if (special) s.bits |= S_ISUID | S_ISGID;
        break;
      case 't':
        if (special) s.bits |= S_ISVTX;
        break;
      default:
        if (s.copy_from) return invalid();
        s.copy_from = rest[0];
    }
  }
  s.who |= s.bits & S_ISVTX;
  if (s.copy_from && (s.bits || s.execute_if)) return invalid();
  return s;
}

result<mode_change> mode_change::parse(std::string_view text) {
  mode_change change;
  if (!text.empty() && text[0] >= '0' && text[0] <= '9') {
    step s;
    s.who = all_bits;
    for (char c : text) {
      if (c < '0' || c > '7') return invalid();
      s.bits = s.bits << 3 | static_cast<mode_t>(c - '0');
      if (s.bits > all_bits) return invalid();
    }
    change.steps_.push_back(s);
    return change;
  }
  for (;;) {
    mode_t who = 0;
    for (; is_one_of("ugoa", text); text.remove_prefix(1))
      who |= text[0] == 'u'   ? user_bits
             : text[0] == 'g' ? group_bits
             : text[0] == 'o' ? other_bits
                              : user_bits | group_bits | other_bits;
    if (!is_one_of("+-=", text)) return invalid();
    while (is_one_of("+-=", text)) {
      KILN_TRY(auto s, parse_step(text, who));
      change.steps_.push_back(s);
    }
    if (text.empty()) return change;
    if (text[0] != ',') return invalid();
    text.remove_prefix(1);
  }
}

mode_t mode_change::apply(mode_t mode) const {
  bool executable = S_ISDIR(mode) || (mode & spread(1)) != 0;
  auto bits = mode & all_bits;
  for (const auto& s : steps_) {
    auto value = s.bits;
    auto touched = s.who;
    if (s.copy_from) {
      value = spread(bits >> (s.copy_from == 'u' ? 6 : s.copy_from == 'g' ? 3 : 0) & 7);
      touched &= permissions;
    }
    if (s.execute_if && executable) value |= spread(1);
    value &= touched;
    if (s.op == '+') bits |= value;
    else if (s.op == '-') bits &= ~value;
    else bits = (bits & ~touched) | value;
  }
  return bits;
}

}  // namespace kiln
