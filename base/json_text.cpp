#include "base/json_text.hpp"

#include <algorithm>

namespace kiln {
namespace {

/// How deep arrays and objects lie within each other. For what is no JSON at least as deep as up to its first
/// error.
int depth_of(std::string_view text) {
  int depth = 0, deepest = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      else if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      deepest = std::max(deepest, ++depth);
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return deepest;
}

/// "line 3, column 7" of nlohmann's message: the rest of it repeats the document.
std::string place_of(std::string_view message) {
  auto begin = message.find("line ");
  if (begin == message.npos) return "its end";
  auto end = message.find(':', begin);
  return std::string(message.substr(begin, end - begin));
}

}  // namespace

template <class Json>
result<Json> parse_json(std::string_view text, std::size_t bytes_max) {
  if (text.size() > bytes_max)
    return make_error(errc::resource_exhausted, "JSON of " + std::to_string(text.size()) +
                                                    " bytes: more than " + std::to_string(bytes_max));
  if (depth_of(text) > json_depth_max)
    return make_error(errc::resource_exhausted,
                      "JSON nested deeper than " + std::to_string(json_depth_max) + " levels");
  try {
    return Json::parse(text);
  } catch (const nlohmann::json::exception& e) {  // the library's way to say where
    return make_error(errc::invalid_argument, "not JSON: wrong at " + place_of(e.what()));
  }
}

template result<nlohmann::json> parse_json(std::string_view, std::size_t);
template result<nlohmann::ordered_json> parse_json(std::string_view, std::size_t);

std::string go_json(const nlohmann::ordered_json& document, int indent) {
  auto raw = json_text(document, indent);
  // These characters occur inside strings only, where their escape means the same.
  std::string out;
  out.reserve(raw.size());
  for (std::size_t i = 0; i < raw.size(); ++i) {
    auto c = raw[i];
    if (c == '<') out += "\\u003c";
    else if (c == '>') out += "\\u003e";
    else if (c == '&') out += "\\u0026";
    else if (c == '\xe2' && raw.compare(i, 3, "\xe2\x80\xa8") == 0) out += "\\u2028", i += 2;
    else if (c == '\xe2' && raw.compare(i, 3, "\xe2\x80\xa9") == 0) out += "\\u2029", i += 2;
    else out += c;
  }
  return out;
}

}  // namespace kiln
