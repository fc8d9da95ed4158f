#include "base/pattern.hpp"

#include <algorithm>

#include "base/slash_path.hpp"
#include "base/text.hpp"
#include "base/utf8.hpp"

namespace kiln {

namespace {

error syntax_error() { return make_error(errc::invalid_argument, "syntax error in pattern"); }

/// Takes one UTF-8 character off the front; a byte that is none counts as a character of its own.
char32_t take_rune(std::string_view& text, bool* bad = nullptr) {
  auto c = first_code_point(text);
  text.remove_prefix(c.width);
  if (c.width > 1 || c.value < 0x80) return c.value;
  if (bad) *bad = true;
  return 0x110000u + c.value;  // different stray bytes stay different, outside of Unicode
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

}  // namespace

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
