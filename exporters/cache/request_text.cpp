#include "exporters/cache/request_text.hpp"

#include <array>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "registry/transport.hpp"

namespace kiln::exporters {

std::string encoded_path(std::string_view path) {
  std::string out;
  for (std::size_t at = 0; at <= path.size();) {
    auto end = std::min(path.find('/', at), path.size());
    out += registry::url_escape(path.substr(at, end - at));
    if (end < path.size()) out += '/';
    at = end + 1;
  }
  return out;
}

std::string encoded_query(const std::map<std::string, std::string>& query) {
  std::string out;
  for (const auto& [name, value] : query)
    out += (out.empty() ? "" : "&") + registry::url_escape(name) + "=" + registry::url_escape(value);
  return out;
}

std::string path_of_url(const std::string& url) {
  auto path = url.find('/', url.find("://") + 3), query = url.find('?');
  return url.substr(path, query == url.npos ? url.npos : query - path);
}

std::string hmac_sha256(std::string_view key, std::string_view text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> out{};
  unsigned size = 0;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
       reinterpret_cast<const unsigned char*>(text.data()), text.size(), out.data(), &size);
  return {reinterpret_cast<const char*>(out.data()), size};
}

std::optional<std::string> decode_base64(std::string_view text) {
  std::string out;
  std::uint32_t bits = 0;
  int count = 0;
  std::size_t padding = 0;
  for (char c : text) {
    int v = c >= 'A' && c <= 'Z'   ? c - 'A'
            : c >= 'a' && c <= 'z' ? c - 'a' + 26
            : c >= '0' && c <= '9' ? c - '0' + 52
            : c == '+'             ? 62
            : c == '/'             ? 63
                                   : -1;
    if (c == '=') {
      ++padding;
      continue;
    }
    if (v < 0 || padding > 0) return {};
    bits = bits << 6 | static_cast<std::uint32_t>(v);
    if ((count += 6) >= 8) out += static_cast<char>(bits >> (count -= 8) & 0xff);
  }
  if (text.size() % 4 != 0 || padding > 2) return {};
  return out;
}

std::string xml_text(const std::string& xml, const std::string& name) {
  auto begin = xml.find("<" + name + ">");
  if (begin == xml.npos) return {};
  begin += name.size() + 2;
  auto end = xml.find("</" + name + ">", begin);
  return end == xml.npos ? std::string() : xml.substr(begin, end - begin);
}

}  // namespace kiln::exporters
