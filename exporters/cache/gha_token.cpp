#include "exporters/cache/gha_token.hpp"

#include <algorithm>
#include <optional>

#include "base/base64.hpp"
#include "base/json_text.hpp"
#include "base/text.hpp"
#include "base/time_text.hpp"

namespace kiln::exporters {
namespace {

constexpr std::int64_t may_read = 1, may_write = 2;

error bad(std::string why) { return make_error(errc::invalid_argument, "invalid token: " + std::move(why)); }

/// base64 as in a JWT: the alphabet for URLs, no padding.
std::optional<std::string> decode_part(std::string text) {
  std::replace(text.begin(), text.end(), '-', '+');
  std::replace(text.begin(), text.end(), '_', '/');
  text.append((4 - text.size() % 4) % 4, '=');
  return base64_decode(text);
}

/// A NumericDate, which may have a fraction.
std::optional<std::int64_t> seconds_of(const nlohmann::json& claims, const char* name) {
  const auto* value = member_of(claims, name);
  if (value == nullptr) return {};
  if (auto whole = integer_value(*value)) return whole;
  const auto* fraction = value->get_ptr<const nlohmann::json::number_float_t*>();
  if (fraction == nullptr || !(*fraction > 0 && *fraction < 1e15)) return {};
  return static_cast<std::int64_t>(*fraction);
}

}  // namespace

std::string gha_token::write_scope() const {
  auto last = std::find_if(scopes.rbegin(), scopes.rend(), [](const gha_scope& s) { return s.write; });
  return last == scopes.rend() ? std::string() : last->name;
}

result<gha_token> read_gha_token(const std::string& text, std::int64_t now_s) {
  auto parts = split(text, '.');
  if (parts.size() != 3) return bad("it is no JWT of three parts");
  auto bytes = decode_part(parts[1]);
  if (!bytes) return bad("its claims are no base64");
  KILN_TRY(auto claims, parse_json(*bytes));
  auto expires = seconds_of(claims, "exp"), begins = seconds_of(claims, "nbf");
  if (!expires) return bad("it has no expiration time");
  if (!begins) return bad("it has no time from which it is good");
  if (*expires < now_s)
    return make_error(errc::unauthenticated, "cache token expired at " + format_rfc3339_seconds(*expires));
  if (*begins > now_s)
    return make_error(errc::unauthenticated,
                      "cache token is not good before " + format_rfc3339_seconds(*begins));
  auto access = json_or_null(text_member(claims, "ac"));
  if (!access.is_array()) return bad("it has no access controls");
  gha_token out;
  out.text = text;
  for (const auto& s : access) {
    auto permission = integer_member(s, "Permission").value_or(0);
    out.scopes.push_back(
        {text_member(s, "Scope"), (permission & may_read) != 0, (permission & may_write) != 0});
  }
  return out;
}

}  // namespace kiln::exporters
