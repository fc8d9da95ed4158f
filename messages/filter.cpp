#include "messages/filter.hpp"

#include <algorithm>
#include <cctype>

#include <re2/re2.h>

#include "base/utf8.hpp"

namespace kiln {

struct filter::regexp {
  explicit regexp(const std::string& text) : re(text, RE2::Quiet) {}
  RE2 re;
};

/// Recursive descent over one expression; positions are byte offsets.
class filter_parser {
 public:
  explicit filter_parser(std::string_view input) : input_(input) {}

  result<std::vector<filter::selector>> selectors() {
    std::vector<filter::selector> all;
    while (true) {
      KILN_TRY(auto one, selector());
      all.push_back(std::move(one));
      if (peek() == end) return all;
      if (peek() != ',') return failure(at_, std::string("unexpected input: ") + input_[at_]);
      ++at_;
    }
  }

 private:
  static constexpr int end = -1;

  error failure(std::size_t position, const std::string& message) const {
    std::string text = "filters: parse error: [";
    if (position < input_.size()) {
      text += input_.substr(0, position);
      text += " >|";
      text += input_[position];
      text += "|< ";
      text += input_.substr(position + 1);
    } else {
      text += input_;
    }
    return make_error(errc::invalid_argument, text + "]: " + message);
  }

  int peek() const { return at_ < input_.size() ? static_cast<unsigned char>(input_[at_]) : end; }
  void skip_blanks() {
    while (peek() != end && std::isspace(peek())) ++at_;
  }
  static bool is_field_char(int c) { return c == '_' || (c != end && c < 128 && std::isalnum(c)); }
  static bool is_quote(int c) { return c == '"' || c == '/' || c == '|'; }
  static bool is_operator_char(int c) { return c == '=' || c == '!' || c == '~'; }

  result<filter::selector> selector() {
    filter::selector s;
    while (true) {
      KILN_TRY(auto part, field());
      s.path.push_back(std::move(part));
      if (peek() != '.') break;
      ++at_;
    }
    if (peek() == ',' || peek() == end) return s;
    skip_blanks();
    auto start = at_;
    while (is_operator_char(peek())) ++at_;
    auto name = input_.substr(start, at_ - start);
    if (name.empty()) return failure(start, "expected an operator (\"==\"|\"!=\"|\"~=\")");
    if (name == "==") s.operation = filter::op::equal;
    else if (name == "!=") s.operation = filter::op::not_equal;
    else if (name == "~=") s.operation = filter::op::matches;
    else return failure(start, "unsupported operator \"" + std::string(name) + "\"");
    KILN_TRY(s.value, value(s.operation == filter::op::matches));
    if (s.operation == filter::op::matches) s.compiled = std::make_shared<filter::regexp>(s.value);
    return s;
  }

  result<std::string> field() {
    skip_blanks();
    auto start = at_;
    if (is_quote(peek())) return quoted(false);
    while (is_field_char(peek())) ++at_;
    if (at_ == start) return failure(start, "expected field or quoted");
    return std::string(input_.substr(start, at_ - start));
  }

  result<std::string> value(bool other_quotes) {
    skip_blanks();
    auto start = at_;
    if (is_quote(peek())) return quoted(other_quotes);
    while (peek() != end && peek() != ',' && !std::isspace(peek()) && !std::iscntrl(peek())) ++at_;
    if (at_ == start) return failure(start, "expected value or quoted");
    return std::string(input_.substr(start, at_ - start));
  }

  result<std::string> quoted(bool other_quotes) {
    auto start = at_;
    char quote = input_[at_++];
    std::string text;
    while (true) {
      if (peek() == end || peek() == '\n') return failure(start, "quoted literal not terminated");
      char c = input_[at_++];
      if (c == quote) break;
      if (c != '\\') {
        text += c;
        continue;
      }
      KILN_TRY(auto unescaped, escape(start, quote));
      text += unescaped;
    }
    if (!other_quotes && quote != '"') return failure(start, "invalid quote encountered");
    return text;
  }

  result<std::string> escape(std::size_t start, char quote) {
    if (peek() == end) return failure(start, "quoted literal not terminated");
    char c = input_[at_++];
    static constexpr std::string_view names = "abfnrtv\\", values = "\a\b\f\n\r\t\v\\";
    if (auto found = names.find(c); found != std::string_view::npos) return std::string(1, values[found]);
    if (c == quote) return std::string(1, c);
    int base = c == 'x' || c == 'u' || c == 'U' ? 16 : 8;
    std::size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 3;
    if (base == 8) {
      if (c < '0' || c > '7') return failure(start, "illegal escape sequence");
      --at_;
    }
    char32_t code = 0;
    for (std::size_t i = 0; i < digits; ++i) {
      int d = peek();
      int number = d >= '0' && d <= '9'   ? d - '0'
                   : d >= 'a' && d <= 'f' ? d - 'a' + 10
                   : d >= 'A' && d <= 'F' ? d - 'A' + 10
                                          : 16;
      if (number >= base) return failure(start, "illegal numeric escape sequence");
      code = code * static_cast<unsigned>(base) + static_cast<unsigned>(number);
      ++at_;
    }
    if (c == 'u' || c == 'U') return utf8(code, start);
    if (code > 255) return failure(start, "unquoting failed: quote syntax error");
    return std::string(1, static_cast<char>(code));
  }

  result<std::string> utf8(char32_t code, std::size_t start) const {
    if (code > 0x10FFFF) return failure(start, "unquoting failed: quote syntax error");
    std::string text;
    append_utf8(text, code);
    return text;
  }

  std::string_view input_;
  std::size_t at_ = 0;
};

result<filter> filter::parse(const std::vector<std::string>& expressions) {
  filter parsed;
  for (const auto& expression : expressions) {
    if (expression.empty()) {
      parsed.any_.emplace_back();
      continue;
    }
    KILN_TRY(auto all, filter_parser(expression).selectors());
    parsed.any_.push_back(std::move(all));
  }
  return parsed;
}

bool filter::matches(const lookup& field) const {
  if (any_.empty()) return true;
  return std::any_of(any_.begin(), any_.end(), [&](const auto& all) {
    return std::all_of(all.begin(), all.end(), [&](const selector& s) {
      auto found = field(s.path);
      switch (s.operation) {
        case op::present: return found.has_value();
        case op::equal: return found && *found == s.value;
        case op::not_equal: return found.value_or("") != s.value;
        case op::matches: return s.compiled->re.ok() && RE2::PartialMatch(found.value_or(""), s.compiled->re);
      }
      return false;
    });
  });
}

}  // namespace kiln
