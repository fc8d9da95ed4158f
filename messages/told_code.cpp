#include "messages/told_code.hpp"

#include <algorithm>
#include <charconv>

namespace kiln {

namespace {

constexpr std::string_view detail_type = "kiln/Told";

errc usually_told(errc inside) {
  switch (inside) {
    case errc::invalid_argument:
    case errc::not_found:
    case errc::already_exists:
    case errc::permission_denied:
    case errc::failed_precondition:
    case errc::aborted:
    case errc::out_of_range:
    case errc::unimplemented:
    case errc::unauthenticated: return errc::unknown;
    default: return inside;
  }
}

auto place_of(error& e) {
  return std::find_if(e.details.begin(), e.details.end(),
                      [](const error_detail& d) { return d.type_url == detail_type; });
}

}  // namespace

error told_as(errc code, error e) {
  auto text = std::to_string(static_cast<int>(code));
  if (auto at = place_of(e); at != e.details.end()) at->value = std::move(text);
  else e.details.push_back({std::string(detail_type), std::move(text)});
  return e;
}

error as_told(error e) {
  auto at = place_of(e);
  if (at == e.details.end()) {
    e.code = usually_told(e.code);
    return e;
  }
  int code = 0;
  std::from_chars(at->value.data(), at->value.data() + at->value.size(), code);
  e.code =
      code > 0 && code <= static_cast<int>(errc::unauthenticated) ? static_cast<errc>(code) : errc::unknown;
  e.details.erase(at);
  return e;
}

}  // namespace kiln
