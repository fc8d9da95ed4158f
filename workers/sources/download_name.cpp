#include "workers/sources/download_name.hpp"

#include <algorithm>
#include <cctype>

namespace kiln::workers {
namespace {

std::string percent_decoded(std::string_view s) {
  std::string out;
  for (std::size_t i = 0; i < s.size(); ++i) {
    if (s[i] == '%' && i + 2 < s.size() && std::isxdigit(static_cast<unsigned char>(s[i + 1])) &&
        std::isxdigit(static_cast<unsigned char>(s[i + 2]))) {
      out += static_cast<char>(std::stoi(std::string(s.substr(i + 1, 2)), nullptr, 16));
      i += 2;
    } else {
      out += s[i];
    }
  }
  return out;
}

}  // namespace

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
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
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
      if (second != std::string::npos) extended = percent_decoded(std::string_view(value).substr(second + 1));
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
  return safe_file_name(percent_decoded(path.substr(slash)));
}

std::string safe_file_name(std::string_view text) {
  auto space = [](char c) { return c == ' ' || (c >= '\t' && c <= '\r'); };
  while (!text.empty() && space(text.front())) text.remove_prefix(1);
  while (!text.empty() && space(text.back())) text.remove_suffix(1);
  while (text.size() > 1 && text.ends_with('/')) text.remove_suffix(1);
  if (auto slash = text.rfind('/'); slash != text.npos) text.remove_prefix(slash + 1);
  bool control = text.find('\x7f') != text.npos;
  for (unsigned char c : text) control |= c < 0x20;
  if (text.empty() || text == "." || text == ".." || text.size() > 255 || control) return "download";
  return std::string(text);
}

}  // namespace kiln::workers
