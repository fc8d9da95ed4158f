#include "workers/proxy/target.hpp"

#include <algorithm>

#include "base/url.hpp"

namespace kiln::workers::proxy {

namespace {

std::string with_user(const parsed_url& u, const std::string& user_info) {
  if (user_info.empty()) return u.str();
  return u.scheme + "://" + user_info + "@" + u.str().substr(u.scheme.size() + 3);
}

/// "host" or "host:port" and nothing else.
result<std::string> origin_of(const std::string& scheme, const std::string& authority) {
  if (authority.empty() || authority.find_first_of("/?#@\\") != authority.npos)
    return make_error(errc::invalid_argument, "no host");
  KILN_TRY(auto u, parse_url(scheme + "://" + authority));
  return u.origin();
}

}  // namespace

result<std::string> tunnel_origin(const request_head& connect) {
  const auto& target = connect.target;
  auto colon = target.rfind(':');
  bool has_port = colon != target.npos && colon + 1 < target.size() &&
                  target.find_first_not_of("0123456789", colon + 1) == target.npos;
  if (!has_port) return make_error(errc::invalid_argument, "CONNECT to other than host:port");
  auto origin = origin_of("https", target);
  if (!origin.ok()) return std::move(origin).error().with_context("CONNECT");
  return origin;
}

result<std::string> asked_url(const request_head& request, const std::string& tunnel) {
  const auto* host = find_header(request.headers, "host");
  bool is_path = request.target.starts_with('/');
  std::string text = request.target;
  if (is_path && tunnel.empty()) {
    // Whoever was led here without knowing of a proxy.
    if (!host) return make_error(errc::invalid_argument, "a path without a Host");
    KILN_TRY(auto origin, origin_of("http", *host));
    text = origin + text;
  } else if (is_path) {
    text = tunnel + text;
  }
  KILN_TRY(auto u, parse_url(text));
  if (u.scheme != "http" && u.scheme != "https")
    return make_error(errc::unimplemented, "only http and https URLs are fetched, not " + u.scheme);
  if (!tunnel.empty()) {
    // Another name in Host would be another site of the same server, which nobody has judged.
    bool elsewhere = u.origin() != tunnel;
    if (host && !elsewhere) {
      KILN_TRY(auto origin, origin_of("https", *host));
      elsewhere = origin != tunnel;
    }
    if (elsewhere)
      return make_error(errc::failed_precondition, "a request for another host than the tunnel's, " + tunnel);
  }
  return with_user(u, u.user_info);
}

std::string shown_url(const std::string& url) {
  auto u = parse_url(url);
  if (!u.ok()) return {};
  std::string mask;
  if (!u->user_info.empty()) mask = u->user_info.find(':') == std::string::npos ? "xxxxx" : "xxxxx:xxxxx";
  return with_user(*u, mask);
}

}  // namespace kiln::workers::proxy
