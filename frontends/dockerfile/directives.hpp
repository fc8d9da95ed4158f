// Parser directives: the `# key=value` comments before anything else, and the wider rules by which the syntax
// of any build file is detected. Pure.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "frontends/dockerfile/location.hpp"

namespace kiln::dockerfile {

struct directive {
  std::string name;  // lower case: syntax, escape or check
  std::string value;
  line_ranges location;
};

/// Reads lines one by one until something is not a directive. Source: parser/directives.go.
class directive_parser {
 public:
  explicit directive_parser(std::string comment = "#", int line = 0)
      : comment_(std::move(comment)), line_(line) {}
  /// The directive in the next line, if the line is one; an error if it is a duplicate.
  result<std::optional<directive>> parse_line(std::string_view line);
  bool done() const noexcept { return done_; }

 private:
  std::string comment_;
  int line_;
  std::set<std::string> seen_;
  bool done_ = false;
};

/// A directive's first word, its whole value, and where.
struct found_directive {
  std::string first_word;
  std::string value;
  line_ranges location;
};

/// The syntax of a build file: `# syntax=`, `// syntax=`, or the "syntax" key of a JSON object; a byte order
/// mark and a shebang line may come first.
std::optional<found_directive> detect_syntax(std::string_view text);
/// The value of one `# key=` directive.
std::optional<found_directive> find_directive(std::string_view key, std::string_view text);

std::string_view without_bom(std::string_view text);

}  // namespace kiln::dockerfile
