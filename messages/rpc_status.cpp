#include "messages/rpc_status.hpp"

#include "rpc_status.pb.h"

namespace kiln {

namespace {

/// Length of the valid UTF-8 sequence at the front, 0 when there is none.
std::size_t sequence_length(std::string_view s) {
  auto byte = [&](std::size_t i) { return static_cast<unsigned char>(s[i]); };
  auto continuation = [&](std::size_t i) { return i < s.size() && (byte(i) & 0xc0) == 0x80; };
  unsigned char first = byte(0);
  if (first < 0x80) return 1;
  if (first >= 0xc2 && first <= 0xdf) return continuation(1) ? 2 : 0;
  if (first >= 0xe0 && first <= 0xef) {
    if (!continuation(1) || !continuation(2)) return 0;
    if (first == 0xe0 && byte(1) < 0xa0) return 0;  // overlong
    if (first == 0xed && byte(1) > 0x9f) return 0;  // surrogates
    return 3;
  }
  if (first >= 0xf0 && first <= 0xf4) {
    if (!continuation(1) || !continuation(2) || !continuation(3)) return 0;
    if (first == 0xf0 && byte(1) < 0x90) return 0;
    if (first == 0xf4 && byte(1) > 0x8f) return 0;  // above U+10FFFF
    return 4;
  }
  return 0;
}

}  // namespace

bool is_valid_utf8(std::string_view text) {
  while (!text.empty()) {
    auto n = sequence_length(text);
    if (n == 0) return false;
    text.remove_prefix(n);
  }
  return true;
}

std::string valid_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    auto n = sequence_length(text);
    if (n == 0) {
      out += "\xef\xbf\xbd";
      n = 1;
    } else {
      out += text.substr(0, n);
    }
    text.remove_prefix(n);
  }
  return out;
}

void to_rpc_status(const error& e, google::rpc::Status& out) {
  out.set_code(static_cast<int>(e.code));
  out.set_message(valid_utf8(e.message));
  out.clear_details();
  for (const auto& detail : e.details) {
    auto* any = out.add_details();
    any->set_type_url(valid_utf8(detail.type_url));
    any->set_value(detail.value);
  }
}

error from_rpc_status(const google::rpc::Status& s) {
  error e;
  bool known = s.code() >= 0 && s.code() <= static_cast<int>(errc::unauthenticated);
  e.code = known ? static_cast<errc>(s.code()) : errc::unknown;
  e.message = s.message();
  e.details.reserve(static_cast<std::size_t>(s.details_size()));
  for (const auto& any : s.details()) e.details.push_back({any.type_url(), any.value()});
  return e;
}

}  // namespace kiln
