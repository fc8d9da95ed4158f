// URLs as libcurl reads them, who speaks http both for us and inside git: their parts, and one way to write
// each. Two spellings of one address are equal here. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace kiln {

struct parsed_url {
  std::string scheme;     // lower case
  std::string user_info;  // "user" or "user:password" as written; not part of what is compared
  std::string host;   // lower case, no final dot; numbers as four ("127.0.0.1"), IPv6 shortest, in brackets
  std::string port;   // empty: the scheme's own
  std::string path;   // begins with "/"; no dot segments, no needless escapes
  std::string query;  // without its mark; empty: none

  /// "host" or "host:port".
  std::string authority() const;
  /// "scheme://host[:port]": who gets what is sent there.
  std::string origin() const;
  /// All of it but the user info and the fragment.
  std::string str() const;
};

/// invalid_argument says what is wrong, without repeating the text: it may hold a password. Hosts that are
/// not ASCII are refused: libcurl would read them by the locale.
result<parsed_url> parse_url(std::string_view text);

/// Whether both are URLs of the same scheme, host and port.
bool same_origin(std::string_view a, std::string_view b);

/// "host[:port]" of a URL; empty when there is none.
std::string host_of_url(std::string_view url);
/// Resolves a Location against the URL it came from; empty when it is no URL.
std::string resolve_url(const std::string& base, const std::string& location);
/// Percent-encodes everything but unreserved characters and what is in `also`.
std::string url_escape(std::string_view text, std::string_view also = {});
/// The same for a query or form value: blanks become '+'. Source: Go url.QueryEscape.
std::string query_escape(std::string_view text);
/// Decodes %XX; '+' is a blank if so wanted. What only looks like an escape stays as it is.
std::string url_unescape(std::string_view text, bool plus_is_blank = false);
/// The same; nothing for a text with a malformed escape. Source: Go url.PathUnescape, url.QueryUnescape.
std::optional<std::string> url_unescape_all(std::string_view text, bool plus_is_blank = false);

}  // namespace kiln
