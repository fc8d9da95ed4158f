#include "workers/sources/header_values.hpp"

#include <algorithm>
#include <cctype>

namespace kiln::workers {

namespace {

// Go's url.QueryEscape.
std::string query_escape(const std::string& text) {
  static constexpr char hex[] = "0123456789ABCDEF";
  std::string out;
  for (unsigned char c : text) {
    if ((c < 0x80 && std::isalnum(c) != 0) || c == '-' || c == '_' || c == '.' || c == '~') {
      out += static_cast<char>(c);
    } else if (c == ' ') {
      out += '+';
    } else {
      out += '%';
      out += hex[c >> 4];
      out += hex[c & 15];
    }
  }
  return out;
}

}  // namespace

void add_header(call_metadata& metadata, const std::string& key, const std::vector<std::string>& values) {
  bool encode = std::any_of(values.begin(), values.end(), [](const std::string& v) {
    return std::any_of(v.begin(), v.end(), [](char c) { return static_cast<unsigned char>(c) > 0x7F; });
  });
  for (const auto& v : values) metadata.emplace_back(key, encode ? query_escape(v) : v);
  if (encode) metadata.emplace_back(key + "-encoded", "1");
}

}  // namespace kiln::workers
