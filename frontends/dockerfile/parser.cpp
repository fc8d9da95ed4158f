#include "frontends/dockerfile/parser.hpp"

#include <algorithm>

#include "frontends/dockerfile/directives.hpp"
#include "frontends/dockerfile/shell_words.hpp"
#include "frontends/dockerfile/text.hpp"

namespace kiln::dockerfile {

namespace {

error at_lines(std::string message, int start, int end) {
  return with_location(make_error(errc::invalid_argument, std::move(message)), ranges_of_lines(start, end));
}

std::string_view trim_newline(std::string_view line) {
  while (line.ends_with('\n') || line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

bool is_comment(std::string_view line) { return trim_space_left(line).starts_with('#'); }
bool is_blank(std::string_view line) { return trim_space_left(trim_newline(line)).empty(); }

bool may_hold_heredoc(const node& n) {
  const auto& inner = equal_fold(n.keyword, "onbuild") && n.child ? *n.child : n;
  auto keyword = to_lower(inner.keyword);
  return (keyword == "add" || keyword == "copy" || keyword == "run") && !inner.json;
}

result<std::vector<heredoc>> heredocs_in(std::string_view line) {
  shell_words words;
  words.raw_quotes = words.raw_escapes = words.skip_unset = true;
  auto split_line = words.expand(line, list_environment());
  std::vector<heredoc> out;
  if (!split_line) return out;  // unbalanced quotes are the shell's business
  for (const auto& word : split_line->words) {
    KILN_TRY(auto found, parse_heredoc_word(word));
    if (found) out.push_back(*std::move(found));
  }
  return out;
}

class reader {
 public:
  explicit reader(std::string_view text) : text_(text) {}

  result<parsed_file> run() {
    while (auto raw = next_line()) {
      auto line = line_number_ == 0 ? without_bom(*raw) : *raw;
      if (is_comment(line)) remember_comment(line);
      KILN_TRY(auto first, start_of_line(line));
      ++line_number_;
      auto start = line_number_;
      auto [text, ends] = cut_continuation(first);
      if (ends && text.empty()) continue;
      KILN_CHECK(instruction(std::string(text), ends, start));
      comments_.clear();
    }
    if (file_.nodes.empty()) return at_lines("file with no instructions", line_number_, 0);
    file_.escape = escape_;
    return std::move(file_);
  }

 private:
  // With its line ending.
  std::optional<std::string_view> next_line() {
    if (pos_ >= text_.size()) return std::nullopt;
    auto end = text_.find('\n', pos_);
    auto line = text_.substr(pos_, end == std::string_view::npos ? end : end - pos_ + 1);
    pos_ += line.size();
    return line;
  }

  void remember_comment(std::string_view line) {
    auto comment = trim_space(line.substr(1));
    if (comment.empty()) comments_.clear();
    else comments_.emplace_back(comment);
  }

  result<bool> directive(std::string_view line) {
    auto found = directives_.parse_line(line);
    if (!found) return with_location(std::move(found).error(), ranges_of_lines(line_number_, 0));
    if (!*found) return false;
    const auto& d = **found;
    if (d.name == "escape") {
      if (d.value != "\\" && d.value != "`")
        return at_lines("invalid escape token '" + d.value + "' does not match ` or \\", line_number_, 0);
      escape_ = d.value[0];
    }
    return true;
  }

  result<std::string_view> start_of_line(std::string_view line) {
    auto text = trim_space_left(trim_newline(line));
    KILN_TRY(bool is_directive, directive(text));
    if (is_directive && !comments_.empty()) comments_.pop_back();
    return is_comment(text) ? std::string_view{} : text;
  }

  struct continued {
    std::string_view text;
    bool ends;
  };
  // A line goes on if its last visible character is a lone escape.
  continued cut_continuation(std::string_view line) const {
    auto last = line.find_last_not_of(" \t");
    if (last == std::string_view::npos || line[last] != escape_) return {line, true};
    if (last > 0 && line[last - 1] == escape_) return {line, true};
    return {line.substr(0, last), false};
  }

  status instruction(std::string line, bool ends, int start) {
    bool has_empty = false;
    while (!ends) {
      auto raw = next_line();
      if (!raw) break;
      auto text = trim_newline(*raw);
      KILN_TRY(bool ignored, directive(text));
      (void)ignored;
      ++line_number_;
      if (is_comment(*raw)) continue;
      if (is_blank(text)) {
        has_empty = true;
        continue;
      }
      auto next = cut_continuation(text);
      ends = next.ends;
      line += next.text;
    }
    if (has_empty) file_.empty_continuations.push_back({{line_number_, line_number_}});
    auto parsed = parse_line(line, escape_);
    if (!parsed) return with_location(std::move(parsed).error(), ranges_of_lines(start, line_number_));
    auto n = *std::move(parsed);
    n.comments = comments_;
    if (may_hold_heredoc(n) && line.find("<<") != std::string::npos)
      KILN_CHECK(read_heredocs(line, start, n));
    n.start_line = start;
    n.end_line = line_number_;
    file_.nodes.push_back(std::move(n));
    return {};
  }

  status read_heredocs(const std::string& line, int start, node& n) {
    auto found = heredocs_in(line);
    if (!found) return with_location(std::move(found).error(), ranges_of_lines(start, line_number_));
    for (auto& doc : *found) {
      bool terminated = false;
      while (auto raw = next_line()) {
        ++line_number_;
        auto candidate = trim_newline(*raw);
        if (doc.chomp) candidate.remove_prefix(std::min(candidate.find_first_not_of('\t'), candidate.size()));
        if (candidate == doc.name) {
          terminated = true;
          break;
        }
        doc.content += *raw;
      }
      if (!terminated) return at_lines("unterminated heredoc", start, line_number_);
      n.heredocs.push_back(std::move(doc));
    }
    return {};
  }

  std::string_view text_;
  std::size_t pos_ = 0;
  int line_number_ = 0;
  char escape_ = '\\';
  directive_parser directives_;
  std::vector<std::string> comments_;
  parsed_file file_;
};

}  // namespace

result<parsed_file> parse(std::string_view text) { return reader(text).run(); }

result<std::optional<heredoc>> parse_heredoc_word(std::string_view word) {
  std::optional<heredoc> none;
  auto digits = word.find_first_not_of("0123456789");
  if (digits == std::string_view::npos || !word.substr(digits).starts_with("<<")) return none;
  auto rest = word.substr(digits + 2);
  heredoc doc;
  if (rest.starts_with('-')) {
    doc.chomp = true;
    rest.remove_prefix(1);
  }
  rest.remove_prefix(std::min(rest.find_first_not_of("\t\n\f\r "), rest.size()));
  if (rest.empty() || rest.find('<') != std::string_view::npos) return none;
  shell_words plain, raw;
  plain.skip_unset = raw.skip_unset = raw.raw_quotes = true;
  KILN_TRY(auto words, plain.expand(rest, list_environment()));
  if (words.words.size() != 1) return none;
  KILN_TRY(auto raw_words, raw.expand(rest, list_environment()));
  if (raw_words.words.size() != 1)
    return make_error(errc::invalid_argument,
                      "internal lexing of heredoc produced inconsistent results: " + std::string(rest));
  auto quotes = [](const std::string& text) {
    return std::count_if(text.begin(), text.end(), [](char c) { return c == '\'' || c == '"'; });
  };
  doc.expand = quotes(words.words[0]) == quotes(raw_words.words[0]);
  doc.name = words.words[0];
  return std::optional<heredoc>(std::move(doc));
}

std::string chomp_heredoc(std::string_view content) {
  std::string out;
  bool at_start = true;
  for (auto c : content) {
    if (at_start && c == '\t') continue;
    at_start = c == '\n';
    out += c;
  }
  return out;
}

}  // namespace kiln::dockerfile
