// Path patterns as Docker users know them: Go's filepath.Match, and moby's pattern lists with `**`, `!` and
// parent matching (.dockerignore, include and exclude lists of local sources, copies and content hashes).
// Pure text; never looks at a file system. All const functions are thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace kiln {

/// Whether `name` contains a wildcard (`*`, `?`, `[`) that is not escaped by a backslash.
bool has_wildcard(std::string_view name);

/// One compiled pattern. Matching takes O(pattern × text) time, whatever the pattern.
class path_pattern {
 public:
  enum class dialect {
    match,  // Go's filepath.Match: `*`, `?`, `[…]`, backslash; `*` stops at a slash
    moby,   // the same, and `**`, which does not stop
  };
  /// invalid_argument "syntax error in pattern" as Go has it.
  static result<path_pattern> compile(std::string_view pattern, dialect d);
  bool matches(std::string_view path) const;
  const std::string& text() const noexcept { return text_; }

 private:
  enum class how : std::uint8_t { exact, prefix, suffix, tokens };
  enum class op : std::uint8_t { literal, any, set, star, all, globstar, globstar_rest };
  struct token {
    op kind = op::literal;
    bool negated = false;     // set
    char32_t character = 0;   // literal
    std::uint32_t first = 0;  // set: its ranges in ranges_
    std::uint32_t count = 0;
  };
  struct range {
    char32_t low, high;
  };
  bool token_accepts(const token& t, char32_t c) const;
  bool run(std::string_view path) const;
  status parse(dialect d);
  status parse_set(std::string_view& rest, dialect d);

  std::string text_;
  std::string fixed_;  // exact: the path; prefix and suffix: the part that must be there
  how how_ = how::tokens;
  std::vector<token> tokens_;
  std::vector<range> ranges_;
};

/// Go's filepath.Match(pattern, name).
result<bool> match_path(std::string_view pattern, std::string_view name);

/// A list of patterns in which later ones override earlier ones and `!` takes back.
/// Source: moby/patternmatcher.
class pattern_list {
 public:
  /// What the parent directory matched; the cheap way when walking a tree. Empty = unknown.
  struct match_info {
    std::vector<bool> matched;
  };

  pattern_list() = default;
  /// Trims white space, drops empty entries, cleans. invalid_argument: "syntax error in pattern",
  /// `illegal exclusion pattern: "!"`.
  static result<pattern_list> compile(const std::vector<std::string>& patterns);

  bool empty() const noexcept { return entries_.empty(); }
  std::size_t size() const noexcept { return entries_.size(); }
  /// Whether any pattern starts with `!`.
  bool has_exclusions() const noexcept { return has_exclusions_; }
  /// The cleaned patterns without their `!`, and whether each had one.
  const std::string& text(std::size_t index) const { return entries_[index].pattern.text(); }
  bool is_exclusion(std::size_t index) const { return entries_[index].exclusion; }

  /// Whether the path or one of its parents matches (paths are relative: "a/b").
  bool matches(std::string_view path) const;
  /// The same, given what the parent directory matched; fills `info` for the path's own children.
  bool matches(std::string_view path, const match_info& parent, match_info& info) const;

 private:
  struct entry {
    path_pattern pattern;
    bool exclusion = false;
  };
  static bool parent_matches(const path_pattern& pattern, std::string_view path);

  std::vector<entry> entries_;
  bool has_exclusions_ = false;
};

}  // namespace kiln
