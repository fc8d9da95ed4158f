#include "frontends/dockerfile/text.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <ctime>

#include "messages/pattern.hpp"

namespace kiln::dockerfile {

code_point decode(std::string_view text, std::size_t at) {
  auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  unsigned char first = byte(at);
  std::size_t width = first < 0x80 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc2 ? 2 : 1;
  if (width == 1 || at + width > text.size() || first > 0xf4) return {first, 1};
  char32_t value = first & (0xff >> (width + 1));
  for (std::size_t i = 1; i < width; ++i) {
    if ((byte(at + i) & 0xc0) != 0x80) return {first, 1};
    value = value << 6 | (byte(at + i) & 0x3f);
  }
  return {value, width};
}

void append_utf8(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xc0 | c >> 6);
    out += static_cast<char>(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xe0 | c >> 12);
    out += static_cast<char>(0x80 | (c >> 6 & 0x3f));
    out += static_cast<char>(0x80 | (c & 0x3f));
  } else {
    out += static_cast<char>(0xf0 | c >> 18);
    out += static_cast<char>(0x80 | (c >> 12 & 0x3f));
    out += static_cast<char>(0x80 | (c >> 6 & 0x3f));
    out += static_cast<char>(0x80 | (c & 0x3f));
  }
}

bool is_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
  return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
         c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

std::string_view trim_space_left(std::string_view text) {
  while (!text.empty()) {
    auto c = decode(text, 0);
    if (!is_space(c.value) || (c.width == 1 && c.value >= 0x80)) break;
    text.remove_prefix(c.width);
  }
  return text;
}

std::string_view trim_space(std::string_view text) {
  text = trim_space_left(text);
  while (!text.empty()) {
    std::size_t start = text.size() - 1;
    while (start > 0 && text.size() - start < 4 && (text[start] & 0xc0) == 0x80) --start;
    auto c = decode(text, start);
    if (start + c.width != text.size() || !is_space(c.value) || (c.width == 1 && c.value >= 0x80)) break;
    text.remove_suffix(c.width);
  }
  return text;
}

std::string to_lower(std::string_view text) {
  std::string out(text);
  for (auto& c : out)
    if (c >= 'A' && c <= 'Z') c += 'a' - 'A';
  return out;
}

std::string to_upper(std::string_view text) {
  std::string out(text);
  for (auto& c : out)
    if (c >= 'a' && c <= 'z') c -= 'a' - 'A';
  return out;
}

bool equal_fold(std::string_view a, std::string_view b) { return to_lower(a) == to_lower(b); }

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> out;
  for (;;) {
    auto at = text.find(separator);
    out.emplace_back(text.substr(0, at));
    if (at == std::string_view::npos) return out;
    text.remove_prefix(at + 1);
  }
}

cut_result cut(std::string_view text, std::string_view separator) {
  auto at = text.find(separator);
  if (at == std::string_view::npos) return {std::string(text), "", false};
  return {std::string(text.substr(0, at)), std::string(text.substr(at + separator.size())), true};
}

std::string join(const std::vector<std::string>& parts, std::string_view separator) {
  std::string out;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) out += separator;
    out += parts[i];
  }
  return out;
}

std::string quote(std::string_view text) {
  static constexpr char hex[] = "0123456789abcdef";
  std::string out = "\"";
  for (std::size_t i = 0; i < text.size();) {
    auto c = decode(text, i);
    auto byte = static_cast<unsigned char>(text[i]);
    if (c.width == 1) {
      switch (byte) {
        case '"': out += "\\\""; break;
        case '\\': out += "\\\\"; break;
        case '\a': out += "\\a"; break;
        case '\b': out += "\\b"; break;
        case '\f': out += "\\f"; break;
        case '\n': out += "\\n"; break;
        case '\r': out += "\\r"; break;
        case '\t': out += "\\t"; break;
        case '\v': out += "\\v"; break;
        default:
          if (byte >= 0x20 && byte < 0x7f) {
            out += static_cast<char>(byte);
          } else {
            out += "\\x";
            out += hex[byte >> 4];
            out += hex[byte & 15];
          }
      }
    } else if (is_space(c.value) || c.value == 0xfeff) {
      out += "\\u";
      for (int shift = 12; shift >= 0; shift -= 4) out += hex[c.value >> shift & 15];
    } else {
      out += text.substr(i, c.width);
    }
    i += c.width;
  }
  return out + "\"";
}

std::string quote(const std::vector<std::string>& items) {
  std::string out = "[";
  for (std::size_t i = 0; i < items.size(); ++i)
    out += (i > 0 ? " " : "") + quote(std::string_view(items[i]));
  return out + "]";
}

std::string bracketed(const std::vector<std::string>& items) { return "[" + join(items, " ") + "]"; }

std::optional<bool> parse_bool(std::string_view text) {
  for (auto yes : {"1", "t", "T", "TRUE", "true", "True"})
    if (text == yes) return true;
  for (auto no : {"0", "f", "F", "FALSE", "false", "False"})
    if (text == no) return false;
  return std::nullopt;
}

std::optional<std::int64_t> parse_int(std::string_view text) {
  if (text.starts_with('+')) {
    text.remove_prefix(1);
    if (text.starts_with('-')) return std::nullopt;
  }
  std::int64_t value = 0;
  auto [end, err] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (err != std::errc{} || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

std::optional<std::uint64_t> parse_uint(std::string_view text, int base, std::uint64_t max) {
  std::uint64_t value = 0;
  auto [end, err] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (err != std::errc{} || end != text.data() + text.size() || text.empty() || value > max)
    return std::nullopt;
  return value;
}

result<std::int64_t> parse_duration(std::string_view text) {
  auto invalid = [&] { return make_error(errc::invalid_argument, "time: invalid duration " + quote(text)); };
  auto rest = text;
  bool negative = false;
  if (rest.starts_with('-') || rest.starts_with('+')) {
    negative = rest[0] == '-';
    rest.remove_prefix(1);
  }
  if (rest == "0") return std::int64_t{0};
  if (rest.empty()) return invalid();
  long double total = 0;
  while (!rest.empty()) {
    auto digits = rest.find_first_not_of("0123456789.");
    auto number = rest.substr(0, digits);
    if (number.empty() || number == "." || std::count(number.begin(), number.end(), '.') > 1)
      return invalid();
    rest.remove_prefix(number.size());
    auto end = rest.find_first_of("0123456789.");
    auto unit = rest.substr(0, end);
    if (unit.empty())
      return make_error(errc::invalid_argument, "time: missing unit in duration " + quote(text));
    long double scale = 0;
    if (unit == "ns") scale = 1;
    else if (unit == "us" || unit == "µs" || unit == "μs") scale = 1e3L;
    else if (unit == "ms") scale = 1e6L;
    else if (unit == "s") scale = 1e9L;
    else if (unit == "m") scale = 60e9L;
    else if (unit == "h") scale = 3600e9L;
    else
      return make_error(errc::invalid_argument,
                        "time: unknown unit " + quote(unit) + " in duration " + quote(text));
    total += std::strtold(std::string(number).c_str(), nullptr) * scale;
    rest.remove_prefix(unit.size());
    if (total > 9.2e18L) return invalid();
  }
  auto value = static_cast<std::int64_t>(total);
  return negative ? -value : value;
}

std::string format_duration(std::int64_t ns) {
  if (ns == 0) return "0s";
  std::string sign = ns < 0 ? "-" : "";
  auto u = static_cast<std::uint64_t>(ns < 0 ? -ns : ns);
  auto fraction = [](std::uint64_t whole, std::uint64_t part, std::uint64_t scale, const char* unit) {
    auto text = std::to_string(whole);
    if (part != 0) {
      auto digits = std::to_string(part + scale).substr(1);
      digits.erase(digits.find_last_not_of('0') + 1);
      text += "." + digits;
    }
    return text + unit;
  };
  if (u < 1000) return sign + std::to_string(u) + "ns";
  if (u < 1000000) return sign + fraction(u / 1000, u % 1000, 1000, "µs");
  if (u < 1000000000) return sign + fraction(u / 1000000, u % 1000000, 1000000, "ms");
  auto seconds = u / 1000000000;
  auto text = fraction(seconds % 60, u % 1000000000, 1000000000, "s");
  if (seconds >= 60) text = std::to_string(seconds / 60 % 60) + "m" + text;
  if (seconds >= 3600) text = std::to_string(seconds / 3600) + "h" + text;
  return sign + text;
}

result<std::int64_t> ram_in_bytes(std::string_view text) {
  auto invalid = [&] {
    return make_error(errc::invalid_argument, "invalid size: '" + std::string(text) + "'");
  };
  auto end = text.find_last_of("0123456789. ");
  if (end == std::string_view::npos) return invalid();
  auto number = text.substr(0, text[end] == ' ' ? end : end + 1);
  auto unit = to_lower(text.substr(end + 1));
  if (number.empty() || number.find_first_not_of("0123456789.") != std::string_view::npos ||
      std::count(number.begin(), number.end(), '.') > 1 || number == ".")
    return invalid();
  int shift = 0;
  if (unit.ends_with("ib")) unit.resize(unit.size() - 2);
  else if (unit.ends_with('b')) unit.pop_back();
  if (unit.size() > 1) return invalid();
  if (!unit.empty()) {
    auto at = std::string_view("kmgtp").find(unit[0]);
    if (at == std::string_view::npos) return invalid();
    shift = 10 * (static_cast<int>(at) + 1);
  }
  auto value = std::strtold(std::string(number).c_str(), nullptr) * std::ldexp(1.0L, shift);
  if (value > 9.2e18L) return invalid();
  return static_cast<std::int64_t>(value);
}

std::string path_join(std::string_view a, std::string_view b) {
  if (a.empty() && b.empty()) return "";
  if (a.empty()) return clean_path(b);
  if (b.empty()) return clean_path(a);
  return clean_path(std::string(a) + "/" + std::string(b));
}

std::string path_base(std::string_view path) {
  if (path.empty()) return ".";
  while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
  if (path == "/") return "/";
  auto slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? path : path.substr(slash + 1));
}

std::string path_dir(std::string_view path) {
  auto slash = path.rfind('/');
  return clean_path(slash == std::string_view::npos ? std::string_view{} : path.substr(0, slash + 1));
}

std::string format_time(std::int64_t unix_seconds) {
  auto seconds = static_cast<std::time_t>(unix_seconds);
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char buffer[64];
  auto length = std::strftime(buffer, sizeof buffer, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return {buffer, length};
}

}  // namespace kiln::dockerfile
