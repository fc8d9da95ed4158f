// From text to a list of instructions with their words, flags, heredocs and line numbers. Knows how each
// instruction's arguments are split, not what they mean. Pure.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "frontends/dockerfile/location.hpp"

namespace kiln::dockerfile {

struct heredoc {
  std::string name;
  bool expand = true;  // no part of the name is quoted
  bool chomp = false;  // <<-: leading tabs are dropped
  std::string content;
};

struct node {
  std::string keyword;             // as written
  std::vector<std::string> flags;  // "--name=value"
  std::vector<std::string> args;   // ENV and LABEL: name, value, "=" or "" for each pair
  bool json = false;               // the arguments were a JSON array
  std::string original;            // the joined line
  std::vector<heredoc> heredocs;
  std::vector<std::string> comments;  // the comment lines right before
  std::shared_ptr<node> child;        // ONBUILD: the instruction behind it
  int start_line = 0;
  int end_line = 0;

  line_ranges location() const { return ranges_of_lines(start_line, end_line); }
};

struct parsed_file {
  std::vector<node> nodes;
  char escape = '\\';
  std::vector<line_ranges> empty_continuations;
};

/// Errors carry their lines. Source: frontend/dockerfile/parser/parser.go Parse.
result<parsed_file> parse(std::string_view text);

/// A word such as `<<EOF`, `3<<-"EOF"`; nullopt when it is not one. The content is left empty.
result<std::optional<heredoc>> parse_heredoc_word(std::string_view word);
/// Drops the leading tabs of every line.
std::string chomp_heredoc(std::string_view content);

/// One instruction line; the line's place is left empty. Source: parser.go newNodeFromLine.
result<node> parse_line(std::string_view line, char escape);

}  // namespace kiln::dockerfile
