#include "workers/sources/download_name.hpp"

#include <algorithm>

#include "base/text.hpp"
#include "base/url.hpp"

namespace kiln::workers {
std::string disposition_file_name(std::string_view header) {
  std::string plain, extended;
  std::size_t at = header.find(';');
  while (at < header.size()) {
    at = header.find_first_not_of("; \t", at);
    if (at == header.npos) break;
    std::size_t equal = header.find('=', at);
    if (equal == header.npos) break;
    std::string name(header.substr(at, equal - at)), value;
    while (!name.empty() && name.back() == ' ') name.pop_back();
    name = to_lower(name);
    at = equal + 1;
    while (at < header.size() && header[at] == ' ') ++at;
    if (at < header.size() && header[at] == '"') {
      for (++at; at < header.size() && header[at] != '"'; ++at) {
        if (header[at] == '\\' && at + 1 < header.size()) ++at;
        value += header[at];
      }
      ++at;
    } else {
      std::size_t end = std::min(header.find_first_of("; \t", at), header.size());
      value = header.substr(at, end - at);
      at = end;
    }
    if (name == "filename") plain = value;
    if (name == "filename*") {
      std::size_t quote = value.find('\'');
      std::size_t second = quote == std::string::npos ? quote : value.find('\'', quote + 1);
      if (second != std::string::npos) extended = url_unescape(std::string_view(value).substr(second + 1));
    }
  }
  return extended.empty() ? plain : extended;
}

std::string download_name(const std::string& url, const std::string& wanted, const std::string& disposition) {
  if (!wanted.empty()) return safe_file_name(wanted);
  if (std::string name = disposition_file_name(disposition); !name.empty() && !name.ends_with('/'))
    return safe_file_name(name);
  std::string path = url.substr(0, url.find_first_of("?#"));
  std::size_t host = path.find("://");
  std::size_t slash = path.find('/', host == path.npos ? 0 : host + 3);
  if (slash == path.npos) return "download";
  return safe_file_name(url_unescape(path.substr(slash)));
}

std::string safe_file_name(std::string_view text) {
  text = trim(text);
  while (text.size() > 1 && text.ends_with('/')) text.remove_suffix(1);
  if (auto slash = text.rfind('/'); slash != text.npos) text.remove_prefix(slash + 1);
  bool control = text.find('\x7f') != text.npos;
  for (unsigned char c : text) control |= c < 0x20;
  if (text.empty() || text == "." || text == ".." || text.size() > 255 || control) return "download";
  return std::string(text);
}

}  // namespace kiln::workers
