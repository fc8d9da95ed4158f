// Which URL a request is about: the one that is judged, fetched and recorded, in its normal form. Pure.
#pragma once

#include <string>

#include "base/result.hpp"
#include "workers/proxy/http_head.hpp"

namespace kiln::workers::proxy {

/// "https://host[:port]" of a CONNECT; invalid_argument for a target that is no "host:port".
result<std::string> tunnel_origin(const request_head& connect);

/// Of a request that came in a tunnel to `tunnel`, or, with an empty one, for the proxy itself. User and
/// password are kept. invalid_argument for what is no URL, unimplemented for other schemes than http and
/// https, failed_precondition for another host than that of the tunnel.
result<std::string> asked_url(const request_head& request, const std::string& tunnel);

/// As it may be shown and recorded: in normal form, user and password masked. Source:
/// urlutil.RedactCredentials.
std::string shown_url(const std::string& url);

}  // namespace kiln::workers::proxy
