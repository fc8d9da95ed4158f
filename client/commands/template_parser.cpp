#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include "client/commands/template_functions.hpp"
#include "client/commands/template_nodes.hpp"

namespace kiln::client {

error template_error(std::string why) {
  return make_error(errc::invalid_argument, "template: " + std::move(why));
}

namespace {

using node = template_node;
using node_ptr = std::shared_ptr<node>;

constexpr int nesting_max = 64;

struct token {
  enum class kind { text, word, string, number, character, end } what = kind::end;
  std::string text;
};

// Splits an action's inside into tokens.
result<std::vector<token>> tokenize(std::string_view in) {
  std::vector<token> out;
  for (std::size_t i = 0; i < in.size();) {
    char c = in[i];
    if (std::isspace(static_cast<unsigned char>(c))) {
      ++i;
    } else if (c == '"' || c == '`') {
      std::string text;
      std::size_t j = i + 1;
      for (; j < in.size() && in[j] != c; ++j) {
        if (c == '"' && in[j] == '\\' && j + 1 < in.size()) {
          ++j;
          text.push_back(in[j] == 'n' ? '\n' : in[j] == 't' ? '\t' : in[j] == 'r' ? '\r' : in[j]);
        } else {
          text.push_back(in[j]);
        }
      }
      if (j >= in.size()) return template_error("unterminated quoted string");
      out.push_back({token::kind::string, text});
      i = j + 1;
    } else if (c == '|' || c == '(' || c == ')') {
      out.push_back({token::kind::character, std::string(1, c)});
      ++i;
    } else {
      std::size_t j = i;
      while (j < in.size() && !std::isspace(static_cast<unsigned char>(in[j])) && in[j] != '|' &&
             in[j] != '(' && in[j] != ')')
        ++j;
      auto word = std::string(in.substr(i, j - i));
      bool number = std::isdigit(static_cast<unsigned char>(word[0])) || (word[0] == '-' && word.size() > 1);
      out.push_back({number ? token::kind::number : token::kind::word, word});
      i = j;
    }
  }
  return out;
}

result<std::vector<std::string>> split_path(std::string_view text) {
  std::vector<std::string> out;
  while (!text.empty()) {
    if (text[0] != '.') return template_error(fmt::format("unexpected \"{}\"", text));
    text.remove_prefix(1);
    auto end = std::min(text.find('.'), text.size());
    if (end == 0)
      return text.empty() ? result<std::vector<std::string>>(out) : template_error("bad field name");
    out.emplace_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return out;
}

class parser {
 public:
  explicit parser(std::string_view text) : rest_(text) {}

  result<node_ptr> parse() {
    auto root = std::make_shared<node>();
    std::string stopped;
    KILN_CHECK(parse_list(root->children, stopped, 0));
    if (!stopped.empty()) return template_error(fmt::format("unexpected {{{{{}}}}}", stopped));
    return root;
  }

 private:
  // Parses until {{end}} or {{else …}}, which is left in `stopped`.
  status parse_list(std::vector<node_ptr>& into, std::string& stopped, int depth) {
    if (depth > nesting_max) return template_error("nested too deeply");
    stopped.clear();
    for (;;) {
      auto open = rest_.find("{{");
      std::string text(rest_.substr(0, open));
      if (trim_next_) text.erase(0, std::min(text.find_first_not_of(" \t\r\n"), text.size()));
      trim_next_ = false;
      if (open == std::string_view::npos) {
        rest_ = {};
        add_text(into, std::move(text));
        return {};
      }
      rest_.remove_prefix(open + 2);
      if (rest_.size() >= 2 && rest_[0] == '-' && std::isspace(static_cast<unsigned char>(rest_[1]))) {
        rest_.remove_prefix(1);
        text.erase(text.find_last_not_of(" \t\r\n") + 1);
      }
      add_text(into, std::move(text));
      auto close = find_close();
      if (close == std::string_view::npos) return template_error("unclosed action");
      auto action = rest_.substr(0, close);
      rest_.remove_prefix(close + 2);
      if (action.size() >= 2 && action.back() == '-' &&
          std::isspace(static_cast<unsigned char>(action[action.size() - 2]))) {
        action.remove_suffix(1);
        trim_next_ = true;
      }
      if (auto first = action.find_first_not_of(" \t\r\n");
          first != std::string_view::npos && action.substr(first).starts_with("/*"))
        continue;
      KILN_TRY(auto tokens, tokenize(action));
      if (tokens.empty()) return template_error("missing value for command");
      const auto& word = tokens[0].text;
      if (tokens[0].what == token::kind::word && (word == "end" || word == "else")) {
        stopped = std::string(action);
        stop_tokens_ = std::move(tokens);
        return {};
      }
      KILN_CHECK(parse_action(into, std::move(tokens), depth));
    }
  }

  std::size_t find_close() const {
    char quote = 0;
    for (std::size_t i = 0; i + 1 < rest_.size(); ++i) {
      if (quote) {
        if (quote == '"' && rest_[i] == '\\') ++i;
        else if (rest_[i] == quote) quote = 0;
      } else if (rest_[i] == '"' || rest_[i] == '`') {
        quote = rest_[i];
      } else if (rest_[i] == '}' && rest_[i + 1] == '}') {
        return i;
      }
    }
    return std::string_view::npos;
  }

  static void add_text(std::vector<node_ptr>& into, std::string text) {
    if (text.empty()) return;
    auto n = std::make_shared<node>();
    n->what = node::kind::text;
    n->text = std::move(text);
    into.push_back(std::move(n));
  }

  status parse_action(std::vector<node_ptr>& into, std::vector<token> tokens, int depth) {
    auto n = std::make_shared<node>();
    const auto word = tokens[0].what == token::kind::word ? tokens[0].text : "";
    n->what = word == "if"      ? node::kind::branch_if
              : word == "range" ? node::kind::branch_range
              : word == "with"  ? node::kind::branch_with
                                : node::kind::action;
    bool block = n->what != node::kind::action;
    std::size_t at = block ? 1 : 0;
    KILN_CHECK(parse_pipeline(tokens, at, n->pipeline, 0));
    if (at != tokens.size()) return template_error(fmt::format("unexpected \"{}\"", tokens[at].text));
    into.push_back(n);
    if (!block) return {};
    std::string stopped;
    KILN_CHECK(parse_list(n->children, stopped, depth + 1));
    if (stopped.empty()) return template_error(fmt::format("missing {{{{end}}}} of {}", word));
    if (stop_tokens_[0].text == "end") return {};
    if (stop_tokens_.size() > 1) {
      // {{else if …}} is an if inside the else, closed by the same end.
      std::vector<token> inner(stop_tokens_.begin() + 1, stop_tokens_.end());
      return parse_action(n->otherwise, std::move(inner), depth + 1);
    }
    KILN_CHECK(parse_list(n->otherwise, stopped, depth + 1));
    if (stopped.empty() || stop_tokens_[0].text != "end")
      return template_error(fmt::format("missing {{{{end}}}} of {}", word));
    return {};
  }

  status parse_pipeline(const std::vector<token>& tokens, std::size_t& at, std::vector<node::command>& into,
                        int depth) {
    if (depth > nesting_max) return template_error("nested too deeply");
    for (;;) {
      node::command command;
      while (at < tokens.size() && !(tokens[at].what == token::kind::character && tokens[at].text != "(")) {
        KILN_TRY(auto operand, parse_operand(tokens, at, depth));
        command.push_back(std::move(operand));
      }
      if (command.empty()) return template_error("missing value for command");
      into.push_back(std::move(command));
      if (at < tokens.size() && tokens[at].text == "|" && tokens[at].what == token::kind::character) {
        ++at;
        continue;
      }
      return {};
    }
  }

  result<node::operand> parse_operand(const std::vector<token>& tokens, std::size_t& at, int depth) {
    const auto& t = tokens[at++];
    node::operand out;
    using kind = node::operand::kind;
    if (t.what == token::kind::character) {
      out.what = kind::pipeline;
      out.inner = std::make_shared<node>();
      KILN_CHECK(parse_pipeline(tokens, at, out.inner->pipeline, depth + 1));
      if (at >= tokens.size() || tokens[at].text != ")") return template_error("unclosed left paren");
      ++at;
      if (at < tokens.size() && tokens[at].what == token::kind::word && tokens[at].text.starts_with(".") &&
          tokens[at].text.size() > 1) {
        KILN_TRY(out.path, split_path(tokens[at++].text));
      }
      return out;
    }
    if (t.what == token::kind::string) {
      out.what = kind::literal;
      out.literal = t.text;
      return out;
    }
    if (t.what == token::kind::number) {
      out.what = kind::literal;
      std::int64_t whole = 0;
      auto [end, err] = std::from_chars(t.text.data(), t.text.data() + t.text.size(), whole);
      if (err == std::errc() && end == t.text.data() + t.text.size()) {
        out.literal = whole;
        return out;
      }
      try {
        out.literal = std::stod(t.text);
      } catch (const std::exception&) {
        return template_error(fmt::format("bad number \"{}\"", t.text));
      }
      return out;
    }
    if (t.text == ".") return out;
    if (t.text.starts_with('.')) {
      out.what = kind::field;
      KILN_TRY(out.path, split_path(t.text));
      return out;
    }
    if (t.text.starts_with('$')) {
      out.what = kind::root;
      if (t.text.size() > 1 && t.text[1] != '.')
        return template_error(fmt::format("undefined variable \"{}\"", t.text));
      KILN_TRY(out.path, split_path(std::string_view(t.text).substr(1)));
      return out;
    }
    if (t.text == "true" || t.text == "false" || t.text == "nil") {
      out.what = kind::literal;
      if (t.text != "nil") out.literal = t.text == "true";
      return out;
    }
    if (!is_template_function(t.text))
      return template_error(fmt::format("function \"{}\" not defined", t.text));
    out.what = kind::function;
    out.function = t.text;
    return out;
  }

  std::string_view rest_;
  bool trim_next_ = false;
  std::vector<token> stop_tokens_;
};

}  // namespace

result<std::shared_ptr<template_node>> parse_template(std::string_view text) { return parser(text).parse(); }

}  // namespace kiln::client
