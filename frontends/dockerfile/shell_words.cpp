#include "frontends/dockerfile/shell_words.hpp"

#include "configs/frontends.hpp"
#include "frontends/dockerfile/text.hpp"

namespace kiln::dockerfile {

std::vector<std::string> list_environment::names() const {
  std::vector<std::string> out;
  for (const auto& [key, value] : list_.entries()) out.push_back(key);
  return out;
}

namespace {

error syntax_error(std::string message) { return make_error(errc::invalid_argument, std::move(message)); }

bool is_digit(char c) { return c >= '0' && c <= '9'; }
// Bytes of a multi-byte character count as letters.
bool is_name_char(char c) {
  return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (c & 0x80) != 0;
}
bool is_special_parameter(char c) { return std::string_view("@*#?-$!0").find(c) != std::string_view::npos; }

// Collects words while text is added.
class word_splitter {
 public:
  void add(std::string_view text) {
    for (std::size_t i = 0; i < text.size();) {
      auto c = first_code_point(text.substr(i));
      auto piece = text.substr(i, c.width);
      i += c.width;
      if (!is_space(c.value) || (c.width == 1 && c.value >= 0x80)) add_raw(piece);
      else if (in_word_) finish();
    }
  }
  void add_raw(std::string_view text) {
    word_ += text;
    in_word_ = true;
  }
  std::vector<std::string> take() {
    finish();
    return std::move(words_);
  }

 private:
  void finish() {
    if (word_.empty()) return;
    words_.push_back(std::move(word_));
    word_.clear();
    in_word_ = false;
  }
  std::string word_;
  std::vector<std::string> words_;
  bool in_word_ = false;
};

class scanner {
 public:
  scanner(const shell_words& options, char escape, std::string_view text, const environment& env,
          expansion& out)
      : options_(options), escape_(escape), text_(text), env_(env), out_(out) {}

  // Up to the stop character, which is consumed; to the end when stop is 0.
  result<std::string> until(char stop, bool raw_escapes, std::vector<std::string>* words) {
    if (++depth_ > configs::dockerfile_max_expansion_depth)
      return syntax_error("substitutions are nested too deeply");
    std::string text;
    word_splitter splitter;
    while (!at_end()) {
      auto c = peek();
      if (stop != 0 && c == stop) {
        ++pos_;
        --depth_;
        if (words != nullptr) *words = splitter.take();
        return text;
      }
      if (c == '$') {
        KILN_TRY(auto value, dollar(raw_escapes));
        if (text.size() + value.size() > configs::dockerfile_max_word_size)
          return syntax_error("expanded text is too large");
        text += value;
        splitter.add(value);
      } else if (c == '<') {
        auto value = heredoc_start();
        text += value;
        splitter.add_raw(value);
      } else if (c == '\'' && !options_.skip_quotes) {
        KILN_TRY(auto value, single_quoted());
        text += value;
        splitter.add_raw(value);
      } else if (c == '"' && !options_.skip_quotes) {
        KILN_TRY(auto value, double_quoted(raw_escapes));
        text += value;
        splitter.add_raw(value);
      } else if (c == escape_) {
        ++pos_;
        if (raw_escapes) {
          text += c;
          splitter.add_raw({&c, 1});
        }
        if (at_end()) break;
        auto escaped = next();
        text += escaped;
        splitter.add_raw(escaped);
      } else {
        auto piece = next();
        text += piece;
        splitter.add(piece);
      }
    }
    if (stop != 0)
      return syntax_error(std::string("unexpected end of statement while looking for matching ") + stop);
    --depth_;
    if (words != nullptr) *words = splitter.take();
    return text;
  }

 private:
  bool at_end() const { return pos_ >= text_.size(); }
  char peek() const { return text_[pos_]; }
  std::string_view next() {
    auto width = first_code_point(text_.substr(pos_)).width;
    auto piece = text_.substr(pos_, width);
    pos_ += width;
    return piece;
  }

  std::optional<std::string> lookup(const std::string& name) {
    auto value = env_.get(name);
    (value ? out_.matched : out_.unmatched).insert(name);
    return value;
  }

  result<std::string> single_quoted() {
    auto end = text_.find('\'', pos_ + 1);
    if (end == std::string_view::npos)
      return syntax_error("unexpected end of statement while looking for matching single-quote");
    auto inner = text_.substr(pos_ + 1, end - pos_ - 1);
    pos_ = end + 1;
    return options_.raw_quotes ? "'" + std::string(inner) + "'" : std::string(inner);
  }

  result<std::string> double_quoted(bool raw_escapes) {
    std::string out;
    ++pos_;
    if (options_.raw_quotes) out += '"';
    while (!at_end()) {
      auto c = peek();
      if (c == '"') {
        ++pos_;
        if (options_.raw_quotes) out += '"';
        return out;
      }
      if (c == '$') {
        KILN_TRY(auto value, dollar(raw_escapes));
        if (out.size() + value.size() > configs::dockerfile_max_word_size)
          return syntax_error("expanded text is too large");
        out += value;
        continue;
      }
      if (c == escape_) {
        ++pos_;
        if (raw_escapes) out += c;
        if (at_end()) continue;
        if (peek() == '"' || peek() == '$' || peek() == escape_) out += next();
        else out += c;
        continue;
      }
      out += next();
    }
    return syntax_error("unexpected end of statement while looking for matching double-quote");
  }

  // "<<" swallows the white space after it, so that "<< EOF" is one word.
  std::string heredoc_start() {
    ++pos_;
    if (at_end() || peek() != '<') return "<";
    ++pos_;
    std::string out = "<<";
    while (!at_end() && (peek() == ' ' || peek() == '\t' || peek() == '\r')) out += text_[pos_++];
    return out;
  }

  std::string name() {
    std::string out;
    while (!at_end()) {
      auto c = peek();
      if (out.empty() && is_digit(c)) {
        while (!at_end() && is_digit(peek())) out += text_[pos_++];
        return out;
      }
      if (out.empty() && is_special_parameter(c)) return std::string(1, text_[pos_++]);
      if (!is_name_char(c)) break;
      out += next();
    }
    return out;
  }

  result<std::string> dollar(bool raw_escapes) {
    ++pos_;
    if (at_end() || peek() != '{') {
      auto variable = name();
      if (variable.empty()) return std::string("$");
      auto value = lookup(variable);
      if (!value && options_.skip_unset) return "$" + variable;
      return value.value_or("");
    }
    ++pos_;
    if (at_end()) return syntax_error("syntax error: missing '}'");
    if (peek() == '{' || peek() == '}' || peek() == ':')
      return syntax_error("syntax error: bad substitution");
    auto variable = name();
    return braced(variable, raw_escapes);
  }

  result<std::string> braced(const std::string& variable, bool) {
    if (at_end()) return unsupported("\xef\xbf\xbd");
    std::string modifier(next());
    if (modifier == "}") {
      auto value = lookup(variable);
      if (!value && options_.skip_unset) return "${" + variable + "}";
      return value.value_or("");
    }
    if (modifier == "/") return replacement(variable);
    bool empty_is_unset = modifier == ":";
    if (empty_is_unset) modifier += at_end() ? std::string_view("\xef\xbf\xbd") : next();
    auto kind = modifier.back();
    bool is_pattern = kind == '#' || kind == '%';
    bool known = is_pattern || kind == '+' || kind == '-' || kind == '?';
    if (!known && !empty_is_unset) return unsupported(modifier);
    if (empty_is_unset && is_pattern) return unsupported(modifier);
    KILN_TRY(auto word, word_until('}', is_pattern));
    auto value = lookup(variable);
    if (options_.skip_unset && !value) return "${" + variable + modifier + word + "}";
    if (!known) return unsupported(modifier);
    bool unset = !value || (empty_is_unset && value->empty());
    switch (kind) {
      case '-': return unset ? word : *value;
      case '+': return unset ? std::string() : word;
      case '?': {
        if (!unset) return *value;
        auto fallback = value ? "is not allowed to be empty" : "is not allowed to be unset";
        return syntax_error(variable + ": " + (word.empty() ? fallback : word));
      }
      default: break;
    }
    bool longest = !word.empty() && word[0] == kind;
    if (longest) word.erase(0, 1);
    auto text = value.value_or("");
    return kind == '%' ? trim_suffix_pattern(word, text, longest) : trim_prefix_pattern(word, text, longest);
  }

  result<std::string> replacement(const std::string& variable) {
    bool all = !at_end() && peek() == '/';
    if (all) ++pos_;
    auto pattern = until('/', true, nullptr);
    if (!pattern) {
      if (at_end()) return syntax_error("syntax error: missing '/' in ${}");
      return std::move(pattern).error();
    }
    KILN_TRY(auto with, word_until('}', true));
    auto value = lookup(variable);
    if (options_.skip_unset && !value) return "${" + variable + "/" + *pattern + "/" + with + "}";
    return replace_pattern(*pattern, with, value.value_or(""), all);
  }

  result<std::string> word_until(char stop, bool raw_escapes) {
    auto word = until(stop, raw_escapes, nullptr);
    if (!word && at_end()) return syntax_error("syntax error: missing '}'");
    return word;
  }

  static error unsupported(const std::string& modifier) {
    return syntax_error("unsupported modifier (" + modifier + ") in substitution");
  }

  const shell_words& options_;
  char escape_;
  std::string_view text_;
  const environment& env_;
  expansion& out_;
  std::size_t pos_ = 0;
  int depth_ = 0;
};

}  // namespace

result<expansion> shell_words::expand(std::string_view text, const environment& env,
                                      std::set<std::string>* unmatched) const {
  expansion out;
  scanner s(*this, escape_, text, env, out);
  auto expanded = s.until(0, raw_escapes, &out.words);
  if (unmatched != nullptr) *unmatched = out.unmatched;
  if (!expanded) return std::move(expanded).error().with_context("failed to process " + quote(text));
  out.text = *std::move(expanded);
  return out;
}

}  // namespace kiln::dockerfile
