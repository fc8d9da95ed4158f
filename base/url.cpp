#include "base/url.hpp"

#include <algorithm>
#include <cctype>
#include <map>
#include <optional>

#include <arpa/inet.h>
#include <curl/curl.h>

#include "base/text.hpp"

namespace kiln {
namespace {

class curl_parts {
 public:
  curl_parts() : handle_(curl_url()) {}
  ~curl_parts() { curl_url_cleanup(handle_); }
  curl_parts(const curl_parts&) = delete;
  curl_parts& operator=(const curl_parts&) = delete;

  /// Resolves against what was set before, if anything was.
  CURLUcode set(const std::string& url, unsigned flags = 0) {
    return curl_url_set(handle_, CURLUPART_URL, url.c_str(), flags);
  }
  std::string get(CURLUPart part) const {
    char* text = nullptr;
    if (curl_url_get(handle_, part, &text, 0) != CURLUE_OK || text == nullptr) return {};
    std::string out(text);
    curl_free(text);
    return out;
  }

 private:
  CURLU* handle_;
};

std::string default_port(const std::string& scheme) {
  static const std::map<std::string, std::string, std::less<>> ports = {
      {"http", "80"}, {"https", "443"}, {"ssh", "22"}, {"git", "9418"}};
  auto found = ports.find(scheme);
  return found == ports.end() ? "" : found->second;
}

bool is_unreserved(unsigned char c) {
  return c < 0x80 && (std::isalnum(c) || c == '-' || c == '.' || c == '_' || c == '~');
}

std::optional<unsigned char> escaped_at(std::string_view text, std::size_t at) {
  if (text[at] != '%' || at + 2 >= text.size()) return std::nullopt;
  auto value = [](char c) -> int {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  int high = value(text[at + 1]), low = value(text[at + 2]);
  if (high < 0 || low < 0) return std::nullopt;
  return static_cast<unsigned char>(high << 4 | low);
}

void append_escaped(std::string& out, unsigned char c) {
  static constexpr char hex[] = "0123456789ABCDEF";
  out += '%';
  out += hex[c >> 4];
  out += hex[c & 15];
}

/// Escapes only what needs it, in capitals. Source: RFC 3986, 6.2.2.
std::string plain_escapes(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    auto c = static_cast<unsigned char>(text[i]);
    if (auto escaped = escaped_at(text, i)) {
      if (is_unreserved(*escaped)) out += static_cast<char>(*escaped);
      else append_escaped(out, *escaped);
      i += 2;
    } else if (c <= ' ' || c >= 0x7f || c == '%') {  // one that begins no escape must not come to begin one
      append_escaped(out, c);
    } else {
      out += text[i];
    }
  }
  return out;
}

/// Source: RFC 3986, 5.2.4; an empty segment is one like others.
std::string without_dot_segments(std::string_view path) {
  std::string out;
  bool directory = false;  // what was last dropped ends in a slash
  while (!path.empty()) {
    path.remove_prefix(1);  // the slash
    auto end = std::min(path.find('/'), path.size());
    auto segment = path.substr(0, end);
    path.remove_prefix(end);
    directory = segment == "." || segment == "..";
    if (segment == "..") out.erase(std::min(out.rfind('/'), out.size()));
    if (!directory) (out += '/') += segment;
  }
  if (directory || out.empty()) out += '/';
  return out;
}

/// Without its final dots a host may be a number that stands for an address.
std::string without_final_dots(std::string host) {
  while (host.ends_with('.')) host.pop_back();
  curl_parts parts;
  return parts.set("http://" + host) == CURLUE_OK ? to_lower(parts.get(CURLUPART_HOST)) : std::string();
}

/// An address has one name here: "[0:0::1]" is "[::1]", and "[::ffff:7f00:1]", which is IPv4 in IPv6, is
/// "127.0.0.1".
std::string one_name(const std::string& host) {
  if (!host.starts_with('[')) return host;
  in6_addr address{};
  auto inside = host.substr(1, host.size() - 2);
  if (inet_pton(AF_INET6, inside.c_str(), &address) != 1) return host;
  char text[INET6_ADDRSTRLEN] = "";
  if (IN6_IS_ADDR_V4MAPPED(&address)) return inet_ntop(AF_INET, &address.s6_addr[12], text, sizeof text);
  return "[" + std::string(inet_ntop(AF_INET6, &address, text, sizeof text)) + "]";
}

error invalid(const std::string& why) { return make_error(errc::invalid_argument, "invalid URL: " + why); }

}  // namespace

std::string parsed_url::authority() const { return port.empty() ? host : host + ":" + port; }

std::string parsed_url::origin() const { return scheme + "://" + authority(); }

std::string parsed_url::str() const { return origin() + path + (query.empty() ? "" : "?" + query); }

result<parsed_url> parse_url(std::string_view text) {
  if (text.find("://") == text.npos) return invalid("no scheme");
  curl_parts parts;
  if (auto code = parts.set(std::string(text), CURLU_NON_SUPPORT_SCHEME); code != CURLUE_OK)
    return invalid(curl_url_strerror(code));
  parsed_url out;
  out.scheme = to_lower(parts.get(CURLUPART_SCHEME));
  out.user_info = parts.get(CURLUPART_USER);
  if (auto password = parts.get(CURLUPART_PASSWORD); !password.empty()) out.user_info += ":" + password;
  out.host = to_lower(parts.get(CURLUPART_HOST));
  if (out.host.ends_with('.')) out.host = without_final_dots(out.host);
  out.host = one_name(out.host);
  if (out.host.empty()) return invalid("no host");
  if (out.host.starts_with('-')) return invalid("the host starts with a dash");
  // libcurl decodes a host each time it reads one: written again, it would name another.
  if (out.host.find('%') != std::string::npos) return invalid("a percent sign in the host");
  if (!parts.get(CURLUPART_ZONEID).empty()) return invalid("an IPv6 zone in the host");
  if (std::any_of(out.host.begin(), out.host.end(), [](unsigned char c) { return c >= 0x80; }))
    return invalid("the host is not ASCII: write it in Punycode (xn--…)");
  out.port = parts.get(CURLUPART_PORT);
  if (out.port == default_port(out.scheme)) out.port.clear();
  out.path = without_dot_segments(plain_escapes(parts.get(CURLUPART_PATH)));
  out.query = plain_escapes(parts.get(CURLUPART_QUERY));
  return out;
}

bool same_origin(std::string_view a, std::string_view b) {
  auto first = parse_url(a), second = parse_url(b);
  return first.ok() && second.ok() && first->origin() == second->origin();
}

std::string host_of_url(std::string_view url) {
  curl_parts parts;
  if (parts.set(std::string(url)) != CURLUE_OK) return {};
  std::string host = parts.get(CURLUPART_HOST), port = parts.get(CURLUPART_PORT);
  return port.empty() ? host : host + ":" + port;
}

std::string resolve_url(const std::string& base, const std::string& location) {
  curl_parts parts;
  if (parts.set(base) != CURLUE_OK || parts.set(location) != CURLUE_OK) return {};
  return parts.get(CURLUPART_URL);
}

std::string url_escape(std::string_view text, std::string_view also) {
  std::string out;
  for (unsigned char c : text) {
    if (is_unreserved(c) || also.find(static_cast<char>(c)) != also.npos) out += static_cast<char>(c);
    else append_escaped(out, c);
  }
  return out;
}

std::string query_escape(std::string_view text) {
  auto out = url_escape(text, " ");
  std::replace(out.begin(), out.end(), ' ', '+');
  return out;
}

std::string url_unescape(std::string_view text, bool plus_is_blank) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (auto escaped = escaped_at(text, i)) {
      out += static_cast<char>(*escaped);
      i += 2;
    } else {
      out += plus_is_blank && text[i] == '+' ? ' ' : text[i];
    }
  }
  return out;
}

std::optional<std::string> url_unescape_all(std::string_view text, bool plus_is_blank) {
  for (std::size_t i = 0; i < text.size(); ++i)
    if (text[i] == '%' && !escaped_at(text, i)) return std::nullopt;
  return url_unescape(text, plus_is_blank);
}

}  // namespace kiln
