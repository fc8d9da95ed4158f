#include "exporters/cache/request_text.hpp"

#include <array>

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/url.hpp"
#include "distribution/transport.hpp"

namespace kiln::exporters {

std::string encoded_path(std::string_view path) { return url_escape(path, "/"); }

std::string encoded_query(const std::map<std::string, std::string>& query) {
  std::string out;
  for (const auto& [name, value] : query)
    out += (out.empty() ? "" : "&") + url_escape(name) + "=" + url_escape(value);
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

std::string xml_text(const std::string& xml, const std::string& name) {
  auto begin = xml.find("<" + name + ">");
  if (begin == xml.npos) return {};
  begin += name.size() + 2;
  auto end = xml.find("</" + name + ">", begin);
  return end == xml.npos ? std::string() : xml.substr(begin, end - begin);
}

}  // namespace kiln::exporters
