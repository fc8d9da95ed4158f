#include "frontends/dockerfile/directives.hpp"

#include "base/json_text.hpp"
#include "frontends/dockerfile/text.hpp"

namespace kiln::dockerfile {

namespace {

bool is_alpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\f' || c == '\r'; }

struct key_value_text {
  std::string key, value;
};

// `key = value`, white space around both allowed, value not empty and without line breaks.
std::optional<key_value_text> match_assignment(std::string_view line) {
  std::size_t at = 0;
  while (at < line.size() && (is_alpha(line[at]) || (at > 0 && line[at] >= '0' && line[at] <= '9'))) ++at;
  if (at == 0) return std::nullopt;
  auto key = to_lower(line.substr(0, at));
  while (at < line.size() && is_blank(line[at])) ++at;
  if (at == line.size() || line[at] != '=') return std::nullopt;
  auto value = line.substr(at + 1);
  while (value.size() > 1 && is_blank(value.front())) value.remove_prefix(1);
  while (value.size() > 1 && is_blank(value.back())) value.remove_suffix(1);
  if (value.empty() || value.find('\n') != std::string_view::npos) return std::nullopt;
  return key_value_text{std::move(key), std::string(value)};
}

std::optional<found_directive> scan(std::string_view key, std::string_view text, std::string comment,
                                    int line) {
  directive_parser parser(std::move(comment), line);
  while (!text.empty() && !parser.done()) {
    auto end = text.find('\n');
    auto current = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (current.ends_with('\r')) current.remove_suffix(1);
    auto found = parser.parse_line(current);
    if (!found) return std::nullopt;
    if (*found && (*found)->name == key)
      return found_directive{cut((*found)->value, " ").before, (*found)->value, (*found)->location};
  }
  return std::nullopt;
}

struct opening {
  std::string_view text;
  int line = 0;
};

opening after_shebang(std::string_view text) {
  text = without_bom(text);
  if (!text.starts_with("#!")) return {text, 0};
  auto end = text.find('\n');
  return {end == std::string_view::npos ? std::string_view{} : text.substr(end + 1), 1};
}

}  // namespace

result<std::optional<directive>> directive_parser::parse_line(std::string_view line) {
  ++line_;
  if (done_) return std::optional<directive>{};
  auto match = line.starts_with(comment_) ? match_assignment(trim_space_left(line.substr(comment_.size())))
                                          : std::nullopt;
  if (!match || (match->key != "syntax" && match->key != "escape" && match->key != "check")) {
    done_ = true;
    return std::optional<directive>{};
  }
  if (!seen_.insert(match->key).second)
    return make_error(errc::invalid_argument, "only one " + match->key + " parser directive can be used");
  return std::optional<directive>{{match->key, match->value, {{line_, line_}}}};
}

std::string_view without_bom(std::string_view text) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  return text;
}

std::optional<found_directive> find_directive(std::string_view key, std::string_view text) {
  auto start = after_shebang(text);
  return scan(key, start.text, "#", start.line);
}

std::optional<found_directive> detect_syntax(std::string_view text) {
  auto start = after_shebang(text);
  if (auto found = scan("syntax", start.text, "#", start.line)) return found;
  if (auto found = scan("syntax", start.text, "//", start.line)) return found;
  if (!trim_space_left(start.text).starts_with('{')) return std::nullopt;
  auto document = json_or_null(start.text);
  const auto* syntax = member_of(document, "syntax");
  if (!syntax || !syntax->is_string()) return std::nullopt;
  auto value = text_value(*syntax);
  return found_directive{value, value, {{start.line, start.line}}};
}

}  // namespace kiln::dockerfile
