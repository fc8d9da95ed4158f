#include "workers/proxy/http_head.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <map>
#include <set>

#include "base/numbers.hpp"
#include "base/text.hpp"
#include "configs/proxy.hpp"

namespace kiln::workers::proxy {

namespace {

constexpr std::string_view line_end = "\r\n";

error malformed(std::string what) { return make_error(errc::invalid_argument, std::move(what)); }

bool is_token_byte(unsigned char c) {
  constexpr std::string_view others = "!#$%&'*+-.^_`|~";
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
         others.find(static_cast<char>(c)) != others.npos;
}

bool is_target_byte(unsigned char c) { return c > ' ' && c != 0x7f; }

/// Its elements, without blanks and empty ones.
std::vector<std::string> elements(std::string_view value) {
  std::vector<std::string> out;
  for (auto part : split_views(value, ','))
    if (auto name = trim(part, " \t"); !name.empty()) out.push_back(to_lower(name));
  return out;
}

status parse_request_line(std::string_view line, request_head& out) {
  auto first = line.find(' ');
  auto last = line.rfind(' ');
  if (first == line.npos || first == last) return malformed("a request line of other than three parts");
  auto method = line.substr(0, first), target = line.substr(first + 1, last - first - 1),
       version = line.substr(last + 1);
  if (!is_token(method)) return malformed("a method that is no token");
  if (target.empty() || !std::all_of(target.begin(), target.end(), is_target_byte))
    return malformed("a target with blanks or control characters");
  if (version != "HTTP/1.1" && version != "HTTP/1.0") {
    if (version.starts_with("HTTP/"))
      return make_error(errc::unimplemented, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    return malformed("a request line without a version of HTTP");
  }
  out.method = method;
  out.target = target;
  out.minor = version.back() - '0';
  return {};
}

status parse_header(std::string_view line, request_head& out) {
  if (line.front() == ' ' || line.front() == '\t') return malformed("a header that goes on in another line");
  auto colon = line.find(':');
  if (colon == line.npos) return malformed("a header without a colon");
  auto name = line.substr(0, colon);
  if (!is_token(name)) return malformed("a header whose name is no token");
  auto value = trim(line.substr(colon + 1), " \t");
  if (!is_field_value(value)) return malformed("control characters in header " + std::string(name));
  if (out.headers.size() >= configs::proxy::headers_max)
    return make_error(errc::resource_exhausted,
                      "a request with more than " + std::to_string(configs::proxy::headers_max) + " headers");
  out.headers.push_back({std::string(name), std::string(value)});
  return {};
}

result<std::int64_t> parse_length(const std::string& value) {
  auto length = parse_uint(value, 10, std::numeric_limits<std::int64_t>::max());
  if (!length) return malformed("a Content-Length that is no number");
  return static_cast<std::int64_t>(*length);
}

/// How long the body is: whoever could be of two minds about that could be made to see another request in it.
status frame(request_head& out) {
  int hosts = 0, codings = 0;
  for (const auto& h : out.headers) {
    auto name = to_lower(h.name);
    if (name == "host") ++hosts;
    if (name == "content-length") {
      KILN_TRY(auto length, parse_length(h.value));
      if (out.length && *out.length != length) return malformed("two values of Content-Length");
      out.length = length;
    } else if (name == "transfer-encoding") {
      ++codings;
      if (to_lower(h.value) != "chunked")
        return make_error(errc::unimplemented, "another Transfer-Encoding than chunked");
      out.chunked = true;
    } else if (name == "expect") {
      if (to_lower(h.value) != "100-continue") return malformed("an Expect that nobody knows");
      out.expects_continue = out.minor == 1;
    }
  }
  if (hosts > 1) return malformed("more than one Host");
  if (hosts == 0 && out.minor == 1) return malformed("no Host");
  if (codings > 1) return malformed("more than one Transfer-Encoding");
  if (out.chunked && out.length) return malformed("both Transfer-Encoding and Content-Length");
  if (out.chunked && out.minor == 0) return malformed("Transfer-Encoding in HTTP/1.0");
  return {};
}

}  // namespace

bool is_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_token_byte);
}

bool is_field_value(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](unsigned char c) { return c == '\t' || (c >= ' ' && c != 0x7f); });
}

std::size_t head_end(std::string_view bytes) {
  auto at = bytes.find("\r\n\r\n");
  return at == bytes.npos ? 0 : at + 4;
}

result<request_head> parse_request_head(std::string_view head) {
  if (!head.ends_with("\r\n\r\n")) return malformed("a head that does not end");
  head.remove_suffix(line_end.size());
  request_head out;
  bool first = true;
  while (!head.empty()) {
    auto end = head.find(line_end);
    auto line = head.substr(0, end);
    head.remove_prefix(end + line_end.size());
    if (line.empty()) return malformed("an empty line");
    if (line.find_first_of(std::string_view("\r\n\0", 3)) != line.npos)
      return malformed("a line that ends in other than CR LF");
    KILN_CHECK(first ? parse_request_line(line, out) : parse_header(line, out));
    first = false;
  }
  if (first) return malformed("no request line");
  KILN_CHECK(frame(out));
  std::vector<std::string> options;
  for (const auto& h : out.headers)
    if (equal_fold(h.name, "connection") || equal_fold(h.name, "proxy-connection"))
      for (auto& o : elements(h.value)) options.push_back(std::move(o));
  auto says = [&](std::string_view option) {
    return std::find(options.begin(), options.end(), option) != options.end();
  };
  out.keep_alive = !says("close") && (out.minor == 1 || says("keep-alive"));
  return out;
}

const std::string* find_header(const header_list& headers, std::string_view name) {
  for (const auto& h : headers)
    if (equal_fold(h.name, name)) return &h.value;
  return nullptr;
}

header_list end_to_end(const header_list& headers) {
  std::set<std::string> dropped = {"connection",          "keep-alive", "proxy-authenticate",
                                   "proxy-authorization", "te",         "proxy-connection",
                                   "transfer-encoding",   "trailer",    "upgrade"};
  for (const auto& h : headers)
    if (equal_fold(h.name, "connection"))
      for (auto& name : elements(h.value)) dropped.insert(std::move(name));
  header_list out;
  for (const auto& h : headers)
    if (!dropped.contains(to_lower(h.name))) out.push_back(h);
  return out;
}

std::string response_head(int minor, int status, std::string_view reason, const header_list& headers) {
  std::string out = "HTTP/1." + std::to_string(minor) + " " + std::to_string(status) + " ";
  out += reason;
  out += line_end;
  for (const auto& h : headers) out += h.name + ": " + h.value + "\r\n";
  out += line_end;
  return out;
}

std::string_view reason_of(int status) {
  static const std::map<int, std::string_view> names = {{200, "OK"},
                                                        {400, "Bad Request"},
                                                        {403, "Forbidden"},
                                                        {404, "Not Found"},
                                                        {408, "Request Timeout"},
                                                        {421, "Misdirected Request"},
                                                        {431, "Request Header Fields Too Large"},
                                                        {501, "Not Implemented"},
                                                        {502, "Bad Gateway"}};
  auto found = names.find(status);
  return found == names.end() ? std::string_view() : found->second;
}

}  // namespace kiln::workers::proxy
