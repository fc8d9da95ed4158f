#include "messages/pattern.hpp"

#include <algorithm>
#include <array>

namespace kiln {

namespace {

error syntax_error() { return make_error(errc::invalid_argument, "syntax error in pattern"); }

/// Takes one UTF-8 character off the front; a byte that is none counts as a character of its own.
char32_t take_rune(std::string_view& text, bool* bad = nullptr) {
  auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  unsigned char lead = byte(0);
  std::size_t length = lead < 0x80 ? 1 : lead >> 5 == 6 ? 2 : lead >> 4 == 14 ? 3 : lead >> 3 == 30 ? 4 : 0;
  if (length == 1) {
    text.remove_prefix(1);
    return lead;
  }
  char32_t rune = length == 0 ? 0 : lead & (0xFFu >> (length + 1));
  bool valid = length != 0 && length <= text.size();
  for (std::size_t i = 1; valid && i < length; ++i) {
    valid = byte(i) >> 6 == 2;
    rune = rune << 6 | (byte(i) & 0x3Fu);
  }
  static constexpr std::array<char32_t, 5> smallest{0, 0, 0x80, 0x800, 0x10000};
  if (!valid || rune < smallest[length] || rune > 0x10FFFF || (rune >= 0xD800 && rune < 0xE000)) {
    if (bad) *bad = true;
    // Keep different stray bytes different, outside of Unicode.
    text.remove_prefix(1);
    return 0x110000u + lead;
  }
  text.remove_prefix(length);
  return rune;
}

/// One character of a set, maybe escaped, which something must follow.
result<char32_t> take_set_rune(std::string_view& rest) {
  if (rest.empty() || rest[0] == '-' || rest[0] == ']') return syntax_error();
  if (rest[0] == '\\') rest.remove_prefix(1);
  if (rest.empty()) return syntax_error();
  bool bad = false;
  auto rune = take_rune(rest, &bad);
  if (bad || rest.empty()) return syntax_error();
  return rune;
}

std::string_view trim(std::string_view text) {
  constexpr std::string_view blanks = " \t\r\n\v\f";
  auto begin = text.find_first_not_of(blanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(blanks) - begin + 1);
}

}  // namespace

std::string clean_path(std::string_view path) {
  bool rooted = !path.empty() && path[0] == '/';
  std::string out = rooted ? "/" : "";
  std::size_t keep = out.size();  // what `..` may not take back
  while (!path.empty()) {
    auto slash = path.find('/');
    auto part = path.substr(0, slash);
    path.remove_prefix(slash == std::string_view::npos ? path.size() : slash + 1);
    if (part.empty() || part == ".") continue;
    if (part == "..") {
      if (out.size() > keep) {
        auto cut = out.rfind('/');
        out.resize(cut == std::string::npos || cut < keep ? keep : cut);
        continue;
      }
      if (rooted) continue;
      if (!out.empty()) out += '/';
      out += "..";
      keep = out.size();
      continue;
    }
    if (!out.empty() && out.back() != '/') out += '/';
    out += part;
  }
  if (out.empty()) out = ".";
  return out;
}

std::string clean_absolute(std::string_view path) { return clean_path("/" + std::string(path)); }

bool has_wildcard(std::string_view name) {
  for (std::size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '*' || name[i] == '?' || name[i] == '[') return true;
    if (name[i] == '\\') ++i;
  }
  return false;
}

result<path_pattern> path_pattern::compile(std::string_view pattern, dialect d) {
  path_pattern compiled;
  compiled.text_ = pattern;
  KILN_CHECK(compiled.parse(d));
  return compiled;
}

status path_pattern::parse_set(std::string_view& rest, dialect d) {
  token set{.kind = op::set, .first = static_cast<std::uint32_t>(ranges_.size())};
  if (!rest.empty() && rest[0] == '^') {
    set.negated = true;
    rest.remove_prefix(1);
  }
  while (true) {
    if (!rest.empty() && rest[0] == ']' && set.count > 0) break;
    KILN_TRY(auto low, take_set_rune(rest));
    auto high = low;
    if (rest[0] == '-') {
      rest.remove_prefix(1);
      KILN_TRY(high, take_set_rune(rest));
    }
    if (d == dialect::moby && low > high) return syntax_error();
    ranges_.push_back({low, high});
    ++set.count;
  }
  rest.remove_prefix(1);
  tokens_.push_back(set);
  return {};
}

// The kinds of match are told apart as moby/patternmatcher does, because they differ in what they
// accept: a leading `**` followed by plain text is a suffix, even in the middle of a name.
status path_pattern::parse(dialect d) {
  std::string_view rest = text_;
  how_ = how::exact;
  for (bool first = true; !rest.empty(); first = false) {
    if (rest[0] == '*' && d == dialect::moby && rest.substr(0, 2) == "**") {
      rest.remove_prefix(2);
      if (!rest.empty() && rest[0] == '/') rest.remove_prefix(1);
      if (rest.empty()) {
        tokens_.push_back({.kind = op::all});
        how_ = how_ == how::exact ? how::prefix : how::tokens;
      } else {
        tokens_.push_back({.kind = op::globstar});
        tokens_.push_back({.kind = op::globstar_rest});
        how_ = how::tokens;
      }
      if (first) how_ = how::suffix;
      continue;
    }
    if (rest[0] == '*') {
      rest.remove_prefix(1);
      if (tokens_.empty() || tokens_.back().kind != op::star) tokens_.push_back({.kind = op::star});
      how_ = how::tokens;
    } else if (rest[0] == '?') {
      rest.remove_prefix(1);
      tokens_.push_back({.kind = op::any});
      how_ = how::tokens;
    } else if (rest[0] == '[') {
      rest.remove_prefix(1);
      KILN_CHECK(parse_set(rest, d));
      how_ = how::tokens;
    } else {
      if (rest[0] == '\\') {
        rest.remove_prefix(1);
        if (rest.empty()) return syntax_error();
        how_ = how::tokens;
      }
      tokens_.push_back({.kind = op::literal, .character = take_rune(rest)});
    }
  }
  switch (how_) {
    case how::exact: fixed_ = text_; break;
    case how::prefix: fixed_ = text_.substr(0, text_.rfind("**")); break;
    case how::suffix: fixed_ = text_.substr(2); break;
    case how::tokens: return {};
  }
  tokens_.clear();
  return {};
}

bool path_pattern::token_accepts(const token& t, char32_t c) const {
  switch (t.kind) {
    case op::literal: return c == t.character;
    case op::any:
    case op::star: return c != '/';
    case op::set: {
      bool inside = std::any_of(ranges_.begin() + t.first, ranges_.begin() + t.first + t.count,
                                [c](const range& r) { return r.low <= c && c <= r.high; });
      return inside != t.negated;
    }
    case op::all:
    case op::globstar_rest: return true;
    case op::globstar: return false;
  }
  return false;
}

// Simulates the pattern as an automaton: the set of tokens that may come next, character by character.
bool path_pattern::run(std::string_view path) const {
  const auto end = static_cast<std::uint32_t>(tokens_.size());
  struct state_set {
    std::vector<std::uint32_t> states;
    std::vector<bool> present;
  } now, next;
  now.present.resize(end + 1);
  next.present.resize(end + 1);
  auto add = [&](state_set& set, std::uint32_t state) {
    auto at = set.states.size();
    auto put = [&set](std::uint32_t s) {
      if (set.present[s]) return;
      set.present[s] = true;
      set.states.push_back(s);
    };
    put(state);
    for (; at < set.states.size(); ++at) {  // follow what may be empty
      auto s = set.states[at];
      if (s == end) continue;
      auto kind = tokens_[s].kind;
      if (kind == op::star || kind == op::all || kind == op::globstar) put(s + 1);
      if (kind == op::globstar) put(s + 2);
    }
  };
  add(now, 0);
  while (!path.empty() && !now.states.empty()) {
    auto c = take_rune(path);
    for (auto s : now.states) {
      if (s == end) continue;
      const auto& t = tokens_[s];
      if (!token_accepts(t, c)) continue;
      bool stays = t.kind == op::star || t.kind == op::all || t.kind == op::globstar_rest;
      if (stays) add(next, s);
      if (!stays || (t.kind == op::globstar_rest && c == '/')) add(next, s + 1);
    }
    std::swap(now, next);
    for (auto s : next.states) next.present[s] = false;
    next.states.clear();
  }
  return path.empty() && now.present[end];
}

bool path_pattern::matches(std::string_view path) const {
  switch (how_) {
    case how::exact: return path == fixed_;
    case how::prefix: return path.substr(0, fixed_.size()) == fixed_;
    case how::suffix:
      if (path.size() >= fixed_.size() && path.substr(path.size() - fixed_.size()) == fixed_) return true;
      return !fixed_.empty() && fixed_[0] == '/' && path == std::string_view(fixed_).substr(1);
    case how::tokens: return run(path);
  }
  return false;
}

result<bool> match_path(std::string_view pattern, std::string_view name) {
  KILN_TRY(auto compiled, path_pattern::compile(pattern, path_pattern::dialect::match));
  return compiled.matches(name);
}

result<pattern_list> pattern_list::compile(const std::vector<std::string>& patterns) {
  pattern_list list;
  for (const auto& raw : patterns) {
    auto trimmed = trim(raw);
    if (trimmed.empty()) continue;
    auto cleaned = clean_path(trimmed);
    bool exclusion = cleaned[0] == '!';
    if (exclusion) {
      if (cleaned.size() == 1) return make_error(errc::invalid_argument, "illegal exclusion pattern: \"!\"");
      cleaned.erase(0, 1);
      list.has_exclusions_ = true;
    }
    KILN_TRY(auto pattern, path_pattern::compile(cleaned, path_pattern::dialect::moby));
    list.entries_.push_back({std::move(pattern), exclusion});
  }
  return list;
}

bool pattern_list::parent_matches(const path_pattern& pattern, std::string_view path) {
  for (auto slash = path.find('/'); slash != std::string_view::npos; slash = path.find('/', slash + 1))
    if (pattern.matches(path.substr(0, slash))) return true;
  return false;
}

bool pattern_list::matches(std::string_view path) const {
  bool matched = false;
  for (const auto& e : entries_) {
    if (e.exclusion != matched) continue;
    if (e.pattern.matches(path) || parent_matches(e.pattern, path)) matched = !e.exclusion;
  }
  return matched;
}

bool pattern_list::matches(std::string_view path, const match_info& parent, match_info& info) const {
  std::vector<bool> own(entries_.size());
  bool parent_known = parent.matched.size() == entries_.size();
  bool matched = false;
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    const auto& e = entries_[i];
    bool match = parent_known && parent.matched[i];
    if (!match) {
      if (e.exclusion != matched) continue;
      match = e.pattern.matches(path) || (!parent_known && parent_matches(e.pattern, path));
    }
    own[i] = match;
    if (match) matched = !e.exclusion;
  }
  info.matched = std::move(own);
  return matched;
}

}  // namespace kiln
