// Shell-like words: quotes, escapes and ${variable} expansion, as Dockerfile instructions use them.
// Pure; a shell_words is a plain value and const use is thread-safe.
#pragma once

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "frontends/llb/env_list.hpp"

namespace kiln::dockerfile {

/// Variables to expand from.
class environment {
 public:
  virtual ~environment() = default;
  virtual std::optional<std::string> get(std::string_view name) const = 0;
  virtual std::vector<std::string> names() const = 0;
};

/// An environment over an env_list, copied.
class list_environment final : public environment {
 public:
  list_environment() = default;
  explicit list_environment(llb::env_list list) : list_(std::move(list)) {}
  std::optional<std::string> get(std::string_view name) const override { return list_.get(name); }
  std::vector<std::string> names() const override;
  const llb::env_list& list() const noexcept { return list_; }

 private:
  llb::env_list list_;
};

struct expansion {
  std::string text;                // the whole word
  std::vector<std::string> words;  // the same, split at unquoted white space
  std::set<std::string> matched;   // variables that were set
  std::set<std::string> unmatched;
};

class shell_words {
 public:
  explicit shell_words(char escape = '\\') : escape_(escape) {}

  bool raw_quotes = false;   // keep quotes in the result
  bool raw_escapes = false;  // keep escape characters
  bool skip_quotes = false;  // quotes are ordinary characters
  bool skip_unset = false;   // leave unset variables as they are

  /// Expands. invalid_argument "failed to process "…": why", e.g. for ${x:?why} and unbalanced quotes.
  /// Source: frontend/dockerfile/shell/lex.go.
  /// `unmatched`, if given, receives the unset variables even when expansion fails.
  result<expansion> expand(std::string_view text, const environment& env,
                           std::set<std::string>* unmatched = nullptr) const;

 private:
  char escape_;
};

/// The prefix, suffix and replacement operators on plain text. Patterns have `*`, `?` and backslash escapes.
/// invalid_argument `invalid escape '\x'`.
result<std::string> trim_prefix_pattern(std::string_view pattern, std::string_view value, bool longest);
result<std::string> trim_suffix_pattern(std::string_view pattern, std::string_view value, bool longest);
result<std::string> replace_pattern(std::string_view pattern, std::string_view replacement,
                                    std::string_view value, bool all);

}  // namespace kiln::dockerfile
