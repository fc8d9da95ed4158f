#include "client/commands/template_functions.hpp"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "client/commands/template_nodes.hpp"

namespace kiln::client {

namespace {

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
    if (j >= format.size()) return template_error("printf: incomplete format");
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

result<go_value> index(const std::vector<go_value>& args) {
  if (args.empty()) return template_error("wrong number of args for index");
  go_value at = args[0];
  for (std::size_t i = 1; i < args.size(); ++i) {
    if (const auto* items = std::get_if<go_value::array>(&at.data)) {
      const auto* n = std::get_if<std::int64_t>(&args[i].data);
      if (!n || *n < 0 || *n >= static_cast<std::int64_t>(items->size()))
        return template_error("index out of range: " + to_text(args[i]));
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

}  // namespace

bool is_template_function(std::string_view name) {
  static constexpr std::string_view functions[] = {"json", "len", "index", "printf", "print", "println",
                                                   "eq",   "ne",  "lt",    "le",     "gt",    "ge",
                                                   "and",  "or",  "not",   "join",   "lower", "upper"};
  return std::find(std::begin(functions), std::end(functions), name) != std::end(functions);
}

result<go_value> call_template_function(const std::string& name, const std::vector<go_value>& args) {
  auto need = [&](std::size_t count) -> status {
    if (args.size() >= count) return {};
    return template_error(
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
    return template_error("len of type without length");
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
    if (!items) return template_error("join: not a list");
    std::string out;
    for (std::size_t i = 0; i < items->size(); ++i)
      out += (i == 0 ? "" : to_text(args[1])) + to_text((*items)[i]);
    return go_value(std::move(out));
  }
  KILN_CHECK(need(2));
  auto order = compare(args[0], args[1]);
  if (!order) return template_error("incompatible types for comparison");
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

}  // namespace kiln::client
