// Heads of HTTP/1.1 requests, read strictly: what two readers could take for two things is refused. Pure.
// Source: RFC 9112, sections 2, 3, 5, 6 and 9.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace kiln::workers::proxy {

struct header {
  std::string name, value;
  bool operator==(const header&) const = default;
};
using header_list = std::vector<header>;

struct request_head {
  std::string method;
  std::string target;  // as it came
  int minor = 1;       // of HTTP/1.x
  header_list headers;
  // What the headers say of the message.
  bool chunked = false;
  std::optional<std::int64_t> length;
  bool keep_alive = true;
  bool expects_continue = false;

  bool has_body() const { return chunked || length.value_or(0) > 0; }
};

/// Bytes up to and with the blank line that ends a head; 0 while there is none.
std::size_t head_end(std::string_view bytes);

/// Of what head_end() told. invalid_argument says what is wrong; resource_exhausted for too many headers;
/// unimplemented for another version of HTTP or another coding of the body than chunks.
result<request_head> parse_request_head(std::string_view head);

/// The first value of that name, in any case; null when there is none.
const std::string* find_header(const header_list& headers, std::string_view name);

/// Without those that are between two neighbours only: RFC 9110, 7.6.1.
header_list end_to_end(const header_list& headers);

bool is_token(std::string_view text);
/// Of a header that may be sent on.
bool is_field_value(std::string_view text);

/// A whole head: status line, headers, blank line.
std::string response_head(int minor, int status, std::string_view reason, const header_list& headers);
/// What a status is called; empty for one that nobody here uses.
std::string_view reason_of(int status);

}  // namespace kiln::workers::proxy
