// One logical line: keyword, flags, and arguments by the keyword's own rules.

#include "base/json_text.hpp"
#include "base/utf8.hpp"
#include "configs/frontends.hpp"
#include "frontends/dockerfile/parser.hpp"
#include "frontends/dockerfile/text.hpp"

namespace kiln::dockerfile {

namespace {

constexpr std::string_view blanks = "\t\v\f\r ";

error syntax_error(std::string message) { return make_error(errc::invalid_argument, std::move(message)); }

// The first word and the rest behind its white space.
struct head_and_rest {
  std::string_view head, rest;
  bool has_rest = false;
};
head_and_rest split_head(std::string_view line) {
  auto at = line.find_first_of(blanks);
  if (at == std::string_view::npos) return {line, {}, false};
  auto after = line.find_first_not_of(blanks, at);
  return {line.substr(0, at), after == std::string_view::npos ? std::string_view{} : line.substr(after),
          true};
}

// Leading "--flag" words; quotes and escapes inside them are resolved here.
class flag_reader {
 public:
  flag_reader(std::string_view line, char escape) : line_(line), escape_(escape) {}

  std::vector<std::string> flags;

  std::string_view read() {
    for (;;) {
      while (pos_ < line_.size() && is_space(static_cast<unsigned char>(line_[pos_]))) ++pos_;
      if (pos_ >= line_.size()) return {};
      if (!line_.substr(pos_).starts_with("--")) return line_.substr(pos_);
      bool quoted = false;
      auto word = next_word(quoted);
      if (word == "--") return line_.substr(pos_);
      if (quoted || !word.empty()) flags.push_back(std::move(word));
    }
  }

 private:
  std::string next_word(bool& quoted) {
    std::string word;
    char quote = 0;
    for (; pos_ < line_.size(); ++pos_) {
      auto c = line_[pos_];
      if (quote == 0 && is_space(static_cast<unsigned char>(c))) break;
      if (quote == 0 && (c == '\'' || c == '"')) {
        quote = c;
        quoted = true;
        continue;
      }
      if (quote != 0 && c == quote) {
        quote = 0;
        continue;
      }
      if (c == escape_) {
        if (pos_ + 1 == line_.size()) continue;
        c = line_[++pos_];
      }
      word += c;
    }
    return word;
  }

  std::string_view line_;
  char escape_;
  std::size_t pos_ = 0;
};

// Words separated by white space; quotes and escapes are kept and protect what is inside.
std::vector<std::string> quoted_words(std::string_view rest, char escape) {
  std::vector<std::string> words;
  std::string word;
  bool in_word = false, blank_ok = false;
  char quote = 0;
  for (std::size_t pos = 0; pos < rest.size();) {
    auto c = first_code_point(rest.substr(pos));
    auto piece = rest.substr(pos, c.width);
    auto ch = piece.size() == 1 ? piece[0] : '\0';
    if (!in_word) {
      if (is_space(c.value) && !(c.width == 1 && c.value >= 0x80)) {
        pos += c.width;
        continue;
      }
      in_word = true;
    }
    if (quote == 0 && is_space(c.value) && !(c.width == 1 && c.value >= 0x80)) {
      if (blank_ok || !word.empty()) words.push_back(word);
      word.clear();
      in_word = blank_ok = false;
      pos += c.width;
      continue;
    }
    bool closes = quote != 0 && ch == quote;
    if (quote == 0 && (ch == '\'' || ch == '"')) {
      quote = ch;
      blank_ok = true;
      word += piece;
      pos += c.width;
      continue;
    }
    if (closes) quote = 0;
    if (ch == escape && !closes && quote != '\'') {
      if (pos + c.width == rest.size()) break;  // an escape at the very end is dropped
      word += piece;
      pos += c.width;
      c = first_code_point(rest.substr(pos));
      piece = rest.substr(pos, c.width);
    }
    word += piece;
    pos += c.width;
  }
  if (in_word && (blank_ok || !word.empty())) words.push_back(word);
  return words;
}

result<std::vector<std::string>> name_values(std::string_view rest, std::string_view keyword, char escape) {
  std::vector<std::string> out;
  auto words = quoted_words(rest, escape);
  if (words.empty()) return out;
  if (words[0].find('=') == std::string::npos) {
    auto [name, value, has_value] = split_head(rest);
    if (!has_value) return syntax_error(std::string(keyword) + " must have two arguments");
    return std::vector<std::string>{std::string(name), std::string(value), ""};
  }
  for (const auto& word : words) {
    auto [name, value, found] = cut(word, "=");
    if (!found)
      return syntax_error("Syntax error - can't find = in " + quote(word) +
                          ". Must be of the form: name=value");
    out.push_back(name);
    out.push_back(value);
    out.push_back("=");
  }
  return out;
}

std::vector<std::string> blank_separated(std::string_view rest) {
  std::vector<std::string> out;
  while (!rest.empty()) {
    auto [head, tail, more] = split_head(rest);
    out.emplace_back(head);
    if (!more) break;
    if (tail.empty()) out.emplace_back();
    rest = tail;
  }
  return out;
}

// Bytes that are no UTF-8 go through the JSON parser as characters of a private range, and come out as they
// were.
constexpr std::string_view stray_marks[] = {
    "\xef\x9e", "\xef\x9f"};  // U+F780 to U+F7FF: what stands before the last byte

std::string mark_stray_bytes(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    std::size_t length = 1;
    while (length <= 4 && length <= text.size() && !is_valid_utf8(text.substr(0, length))) ++length;
    if (length <= 4 && length <= text.size()) {
      out += text.substr(0, length);
    } else {
      auto byte = static_cast<unsigned char>(text[0]);
      out += stray_marks[byte >> 6 & 1];
      out += static_cast<char>(0x80 | (byte & 0x3f));
      length = 1;
    }
    text.remove_prefix(length);
  }
  return out;
}

std::string unmark_stray_bytes(std::string text) {
  for (std::size_t at = 0; (at = text.find('\xef', at)) != std::string::npos; ++at)
    for (unsigned half : {0u, 1u})
      if (at + 2 < text.size() && text.compare(at, 2, stray_marks[half]) == 0)
        text.replace(at, 3, 1,
                     static_cast<char>(0x80 | half << 6 | (static_cast<unsigned char>(text[at + 2]) & 0x3f)));
  return text;
}

enum class json_outcome { list, not_a_list, not_strings };

json_outcome json_list(std::string_view rest, std::vector<std::string>& out) {
  rest = trim_space_left(rest);
  if (!rest.starts_with('[')) return json_outcome::not_a_list;
  bool stray = !is_valid_utf8(rest);
  auto document = json_or_null(stray ? mark_stray_bytes(rest) : std::string(rest));
  if (!document.is_array()) return json_outcome::not_a_list;
  for (const auto& item : document)
    if (!item.is_string()) return json_outcome::not_strings;
  for (const auto& item : document) {
    auto text = text_value(item);
    out.push_back(stray ? unmark_stray_bytes(std::move(text)) : std::move(text));
  }
  return json_outcome::list;
}

// JSON if it looks like it; otherwise one string, or words.
status maybe_json(std::string_view rest, bool words, node& n) {
  if (rest.empty()) return {};
  std::vector<std::string> list;
  switch (json_list(rest, list)) {
    case json_outcome::not_strings:
      return syntax_error("when using JSON array syntax, arrays must be comprised of strings only");
    case json_outcome::list:
      n.json = true;
      n.args.insert(n.args.end(), list.begin(), list.end());
      return {};
    case json_outcome::not_a_list: break;
  }
  if (words) n.args = blank_separated(rest);
  else n.args.emplace_back(rest);
  return {};
}

status health_arguments(std::string_view rest, node& n) {
  std::size_t end = 0;
  while (end < rest.size() && !is_space(static_cast<unsigned char>(rest[end]))) ++end;
  if (end == 0) return {};
  n.args.emplace_back(rest.substr(0, end));
  while (end < rest.size() && is_space(static_cast<unsigned char>(rest[end]))) ++end;
  return maybe_json(rest.substr(end), false, n);
}

result<node> parse_at_depth(std::string_view line, char escape, int depth);

status arguments(std::string_view rest, char escape, int depth, node& n) {
  auto keyword = to_lower(n.keyword);
  auto one_of = [&](auto... names) { return ((keyword == names) || ...); };
  if (one_of("run", "cmd", "entrypoint", "shell")) return maybe_json(rest, false, n);
  if (one_of("add", "copy", "volume")) return maybe_json(rest, true, n);
  if (one_of("from", "expose")) {
    n.args = blank_separated(rest);
  } else if (one_of("maintainer", "stopsignal", "user", "workdir")) {
    if (!rest.empty()) n.args.emplace_back(rest);
  } else if (one_of("env", "label")) {
    KILN_TRY(n.args, name_values(rest, keyword == "env" ? "ENV" : "LABEL", escape));
  } else if (one_of("arg")) {
    n.args = quoted_words(rest, escape);
  } else if (one_of("healthcheck")) {
    return health_arguments(rest, n);
  } else if (one_of("onbuild")) {
    if (rest.empty()) return {};
    KILN_TRY(auto child, parse_at_depth(rest, escape, depth + 1));
    n.args.push_back(child.keyword);
    n.args.insert(n.args.end(), child.args.begin(), child.args.end());
    n.child = std::make_shared<node>(std::move(child));
  }
  return {};
}

result<node> parse_at_depth(std::string_view line, char escape, int depth) {
  if (depth > configs::dockerfile_max_onbuild_depth)
    return syntax_error("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed");
  auto [keyword, rest, has_rest] = split_head(trim_space(line));
  node n;
  n.keyword = keyword;
  n.original = line;
  std::string_view args;
  if (has_rest) {
    flag_reader reader(rest, escape);
    args = reader.read();
    n.flags = std::move(reader.flags);
  }
  KILN_CHECK(arguments(trim_space(args), escape, depth, n));
  return n;
}

}  // namespace

result<node> parse_line(std::string_view line, char escape) { return parse_at_depth(line, escape, 0); }

}  // namespace kiln::dockerfile
