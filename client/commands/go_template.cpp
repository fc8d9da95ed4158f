#include "client/commands/go_template.hpp"

#include <algorithm>
#include <charconv>
#include <functional>

#include <fmt/format.h>

namespace kiln::client {

// One node: text, an action, or a block with its branches.
struct template_node {
  enum class kind { list, text, action, branch_if, branch_range, branch_with };
  struct operand {
    enum class kind { dot, root, field, literal, pipeline, function };
    kind what = kind::dot;
    std::vector<std::string> path;  // after dot, root or a pipeline in parentheses
    go_value literal;
    std::string function;
    std::shared_ptr<template_node> inner;  // its pipeline
  };
  using command = std::vector<operand>;  // a function and its arguments, or one value

  kind what = kind::list;
  std::string text;
  std::vector<command> pipeline;
  std::vector<std::shared_ptr<template_node>> children;
  std::vector<std::shared_ptr<template_node>> otherwise;
};

namespace {

using node = template_node;
using node_ptr = std::shared_ptr<node>;

constexpr int nesting_max = 64;

error bad(std::string why) { return make_error(errc::invalid_argument, "template: " + why); }

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
      if (j >= in.size()) return bad("unterminated quoted string");
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
    if (text[0] != '.') return bad(fmt::format("unexpected \"{}\"", text));
    text.remove_prefix(1);
    auto end = std::min(text.find('.'), text.size());
    if (end == 0) return text.empty() ? result<std::vector<std::string>>(out) : bad("bad field name");
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
    if (!stopped.empty()) return bad(fmt::format("unexpected {{{{{}}}}}", stopped));
    return root;
  }

 private:
  // Parses until {{end}} or {{else …}}, which is left in `stopped`.
  status parse_list(std::vector<node_ptr>& into, std::string& stopped, int depth) {
    if (depth > nesting_max) return bad("nested too deeply");
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
      if (close == std::string_view::npos) return bad("unclosed action");
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
      if (tokens.empty()) return bad("missing value for command");
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
    if (at != tokens.size()) return bad(fmt::format("unexpected \"{}\"", tokens[at].text));
    into.push_back(n);
    if (!block) return {};
    std::string stopped;
    KILN_CHECK(parse_list(n->children, stopped, depth + 1));
    if (stopped.empty()) return bad(fmt::format("missing {{{{end}}}} of {}", word));
    if (stop_tokens_[0].text == "end") return {};
    if (stop_tokens_.size() > 1) {
      // {{else if …}} is an if inside the else, closed by the same end.
      std::vector<token> inner(stop_tokens_.begin() + 1, stop_tokens_.end());
      return parse_action(n->otherwise, std::move(inner), depth + 1);
    }
    KILN_CHECK(parse_list(n->otherwise, stopped, depth + 1));
    if (stopped.empty() || stop_tokens_[0].text != "end")
      return bad(fmt::format("missing {{{{end}}}} of {}", word));
    return {};
  }

  status parse_pipeline(const std::vector<token>& tokens, std::size_t& at, std::vector<node::command>& into,
                        int depth) {
    if (depth > nesting_max) return bad("nested too deeply");
    for (;;) {
      node::command command;
      while (at < tokens.size() && !(tokens[at].what == token::kind::character && tokens[at].text != "(")) {
        KILN_TRY(auto operand, parse_operand(tokens, at, depth));
        command.push_back(std::move(operand));
      }
      if (command.empty()) return bad("missing value for command");
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
      if (at >= tokens.size() || tokens[at].text != ")") return bad("unclosed left paren");
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
        return bad(fmt::format("bad number \"{}\"", t.text));
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
      if (t.text.size() > 1 && t.text[1] != '.') return bad(fmt::format("undefined variable \"{}\"", t.text));
      KILN_TRY(out.path, split_path(std::string_view(t.text).substr(1)));
      return out;
    }
    if (t.text == "true" || t.text == "false" || t.text == "nil") {
      out.what = kind::literal;
      if (t.text != "nil") out.literal = t.text == "true";
      return out;
    }
    static constexpr std::string_view functions[] = {"json", "len", "index", "printf", "print", "println",
                                                     "eq",   "ne",  "lt",    "le",     "gt",    "ge",
                                                     "and",  "or",  "not",   "join",   "lower", "upper"};
    if (std::find(std::begin(functions), std::end(functions), t.text) == std::end(functions))
      return bad(fmt::format("function \"{}\" not defined", t.text));
    out.what = kind::function;
    out.function = t.text;
    return out;
  }

  std::string_view rest_;
  bool trim_next_ = false;
  std::vector<token> stop_tokens_;
};

bool truth(const go_value& v) { return !v.is_zero(); }

result<std::string> format_verb(const std::string& format, const std::vector<go_value>& args) {
  std::string out;
  std::size_t next = 0;
  for (std::size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%') {
      out.push_back(format[i]);
      continue;
    }
    std::size_t j = i + 1;
    while (j < format.size() && (std::isdigit(static_cast<unsigned char>(format[j])) || format[j] == '-' ||
                                 format[j] == '.' || format[j] == '+' || format[j] == '#'))
      ++j;
    if (j >= format.size()) return bad("printf: incomplete format");
    auto flags = format.substr(i + 1, j - i - 1);
    char verb = format[j];
    i = j;
    if (verb == '%') {
      out.push_back('%');
      continue;
    }
    if (next >= args.size()) {
      out += fmt::format("%!{}(MISSING)", verb);
      continue;
    }
    const auto& arg = args[next++];
    bool left = flags.starts_with('-');
    if (left) flags.erase(0, 1);
    int width = 0, precision = -1;
    auto dot = flags.find('.');
    width = std::min(std::atoi(flags.substr(0, dot).c_str()), 1000);
    if (dot != std::string::npos) precision = std::min(std::atoi(flags.substr(dot + 1).c_str()), 100);
    std::string text;
    if (verb == 'q') text = to_json(go_value(to_text(arg)));
    else if ((verb == 'f' || verb == 'g') &&
             (std::holds_alternative<double>(arg.data) || std::holds_alternative<std::int64_t>(arg.data)))
      text = fmt::format("{:.{}f}",
                         std::holds_alternative<double>(arg.data)
                             ? std::get<double>(arg.data)
                             : static_cast<double>(std::get<std::int64_t>(arg.data)),
                         precision < 0 ? 6 : precision);
    else if (verb == 'x' && std::holds_alternative<std::int64_t>(arg.data))
      text = fmt::format("{:x}", std::get<std::int64_t>(arg.data));
    else text = to_text(arg);
    if (verb == 's' && precision >= 0) text = text.substr(0, static_cast<std::size_t>(precision));
    auto pad =
        static_cast<std::size_t>(width) > text.size() ? static_cast<std::size_t>(width) - text.size() : 0;
    out += left ? text + std::string(pad, ' ') : std::string(pad, ' ') + text;
  }
  return out;
}

// -1, 0, 1; nothing when the values do not compare.
std::optional<int> compare(const go_value& a, const go_value& b) {
  auto order = [](const auto& x, const auto& y) { return x < y ? -1 : y < x ? 1 : 0; };
  auto number = [](const go_value& v) -> std::optional<double> {
    if (const auto* i = std::get_if<std::int64_t>(&v.data)) return static_cast<double>(*i);
    if (const auto* d = std::get_if<double>(&v.data)) return *d;
    return std::nullopt;
  };
  if (auto x = number(a), y = number(b); x && y) return order(*x, *y);
  if (const auto* x = std::get_if<std::string>(&a.data), *y = std::get_if<std::string>(&b.data); x && y)
    return order(*x, *y);
  if (const auto* x = std::get_if<bool>(&a.data), *y = std::get_if<bool>(&b.data); x && y)
    return order(*x, *y);
  return std::nullopt;
}

class evaluator {
 public:
  explicit evaluator(const go_value& root) : root_(root) {}

  status list(const std::vector<node_ptr>& nodes, const go_value& dot) {
    for (const auto& n : nodes) KILN_CHECK(one(*n, dot));
    return {};
  }
  std::string take() { return std::move(out_); }

 private:
  status one(const node& n, const go_value& dot) {
    if (n.what == node::kind::text) {
      out_ += n.text;
      return {};
    }
    KILN_TRY(auto value, pipeline(n.pipeline, dot));
    switch (n.what) {
      case node::kind::action: out_ += to_text(value); return {};
      case node::kind::branch_if: return list(truth(value) ? n.children : n.otherwise, dot);
      case node::kind::branch_with: return truth(value) ? list(n.children, value) : list(n.otherwise, dot);
      default: return range(n, value, dot);
    }
  }

  status range(const node& n, const go_value& value, const go_value& dot) {
    if (value.is_zero()) return list(n.otherwise, dot);
    if (const auto* items = std::get_if<go_value::array>(&value.data)) {
      for (const auto& item : *items) KILN_CHECK(list(n.children, item));
      return {};
    }
    if (const auto* entries = std::get_if<go_value::map>(&value.data)) {
      for (const auto& e : entries->entries) KILN_CHECK(list(n.children, e.value));
      return {};
    }
    return bad(fmt::format("range can't iterate over {}", to_text(value)));
  }

  result<go_value> pipeline(const std::vector<node::command>& commands, const go_value& dot) {
    go_value last;
    for (std::size_t i = 0; i < commands.size(); ++i) {
      const auto& command = commands[i];
      if (command[0].what == node::operand::kind::function) {
        std::vector<go_value> args;
        for (std::size_t k = 1; k < command.size(); ++k) {
          KILN_TRY(auto arg, operand(command[k], dot));
          args.push_back(std::move(arg));
        }
        if (i > 0) args.push_back(std::move(last));
        KILN_TRY(last, call(command[0].function, args));
      } else {
        if (command.size() > 1 || i > 0) return bad("can't give argument to non-function");
        KILN_TRY(last, operand(command[0], dot));
      }
    }
    return last;
  }

  result<go_value> operand(const node::operand& o, const go_value& dot) {
    using kind = node::operand::kind;
    switch (o.what) {
      case kind::dot: return dot;
      case kind::literal: return o.literal;
      case kind::field: return walk(dot, o.path);
      case kind::root: return walk(root_, o.path);
      case kind::function: return call(o.function, {});
      case kind::pipeline: {
        KILN_TRY(auto value, pipeline(o.inner->pipeline, dot));
        return walk(value, o.path);
      }
    }
    return go_value();
  }

  result<go_value> walk(const go_value& from, const std::vector<std::string>& path) {
    const go_value* at = &from;
    for (const auto& name : path) {
      const auto* next = at->find(name);
      if (!next && std::holds_alternative<go_value::map>(at->data)) return go_value();
      if (!next) return bad(fmt::format("can't evaluate field {}", name));
      at = next;
    }
    return *at;
  }

  result<go_value> call(const std::string& name, const std::vector<go_value>& args) {
    auto need = [&](std::size_t count) -> status {
      if (args.size() >= count) return {};
      return bad(
          fmt::format("wrong number of args for {}: want at least {} got {}", name, count, args.size()));
    };
    if (name == "json") {
      KILN_CHECK(need(1));
      return go_value(to_json(args[0]));
    }
    if (name == "len") {
      KILN_CHECK(need(1));
      if (const auto* s = std::get_if<std::string>(&args[0].data))
        return go_value(static_cast<std::int64_t>(s->size()));
      if (const auto* a = std::get_if<go_value::array>(&args[0].data))
        return go_value(static_cast<std::int64_t>(a->size()));
      if (const auto* m = std::get_if<go_value::map>(&args[0].data))
        return go_value(static_cast<std::int64_t>(m->entries.size()));
      return bad("len of type without length");
    }
    if (name == "index") return index(args);
    if (name == "not") {
      KILN_CHECK(need(1));
      return go_value(!truth(args[0]));
    }
    if (name == "and" || name == "or") {
      KILN_CHECK(need(1));
      for (const auto& a : args)
        if (truth(a) == (name == "or")) return a;
      return args.back();
    }
    if (name == "print" || name == "println") {
      std::string out;
      for (const auto& a : args) out += (out.empty() || name == "print" ? "" : " ") + to_text(a);
      return go_value(out + (name == "println" ? "\n" : ""));
    }
    if (name == "printf") {
      KILN_CHECK(need(1));
      KILN_TRY(auto text, format_verb(to_text(args[0]), {args.begin() + 1, args.end()}));
      return go_value(std::move(text));
    }
    if (name == "lower" || name == "upper") {
      KILN_CHECK(need(1));
      auto text = to_text(args[0]);
      std::transform(text.begin(), text.end(), text.begin(),
                     [&](unsigned char c) { return name == "lower" ? std::tolower(c) : std::toupper(c); });
      return go_value(std::move(text));
    }
    if (name == "join") {
      KILN_CHECK(need(2));
      const auto* items = std::get_if<go_value::array>(&args[0].data);
      if (!items) return bad("join: not a list");
      std::string out;
      for (std::size_t i = 0; i < items->size(); ++i)
        out += (i == 0 ? "" : to_text(args[1])) + to_text((*items)[i]);
      return go_value(std::move(out));
    }
    KILN_CHECK(need(2));
    auto order = compare(args[0], args[1]);
    if (!order) return bad("incompatible types for comparison");
    if (name == "eq") {
      for (std::size_t i = 1; i < args.size(); ++i)
        if (compare(args[0], args[i]) == 0) return go_value(true);
      return go_value(false);
    }
    return go_value(name == "ne"   ? *order != 0
                    : name == "lt" ? *order < 0
                    : name == "le" ? *order <= 0
                    : name == "gt" ? *order > 0
                                   : *order >= 0);
  }

  result<go_value> index(const std::vector<go_value>& args) {
    if (args.empty()) return bad("wrong number of args for index");
    go_value at = args[0];
    for (std::size_t i = 1; i < args.size(); ++i) {
      if (const auto* items = std::get_if<go_value::array>(&at.data)) {
        const auto* n = std::get_if<std::int64_t>(&args[i].data);
        if (!n || *n < 0 || *n >= static_cast<std::int64_t>(items->size()))
          return bad("index out of range: " + to_text(args[i]));
        go_value next = (*items)[static_cast<std::size_t>(*n)];
        at = std::move(next);
        continue;
      }
      const auto* found = at.find(to_text(args[i]));
      go_value next = found ? *found : go_value("");
      at = std::move(next);
    }
    return at;
  }

  const go_value& root_;
  std::string out_;
};

}  // namespace

result<go_template> go_template::parse(std::string_view text) {
  if (text == "json") text = "{{json .}}";
  go_template out;
  KILN_TRY(out.root_, parser(text).parse());
  return out;
}

result<std::string> go_template::render(const go_value& value) const {
  evaluator e(value);
  KILN_CHECK(e.list(root_->children, value));
  return e.take();
}

}  // namespace kiln::client
