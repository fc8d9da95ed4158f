#include "messages/text_list.hpp"

#include <algorithm>

#include "base/utf8.hpp"

namespace kiln {

std::string bytes_key(std::string_view key) { return std::string(key) + ".bytes"; }

std::optional<std::string> list_bytes(const std::vector<std::string>& items) {
  if (std::all_of(items.begin(), items.end(), [](const std::string& s) { return is_valid_utf8(s); }))
    return {};
  std::string out;
  for (const auto& item : items) out += item + '\0';
  return out;
}

result<std::vector<std::string>> parse_list_bytes(std::string_view bytes) {
  std::vector<std::string> items;
  while (!bytes.empty()) {
    auto end = bytes.find('\0');
    if (end == std::string_view::npos)
      return make_error(errc::invalid_argument, "invalid list of texts: the last one is not ended");
    items.emplace_back(bytes.substr(0, end));
    bytes.remove_prefix(end + 1);
  }
  return items;
}

}  // namespace kiln
