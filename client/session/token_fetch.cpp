#include "client/session/token_fetch.hpp"

#include <chrono>
#include <ctime>
#include <memory>
#include <tuple>

#include <fmt/format.h>

#include "base/base64.hpp"
#include "base/json_text.hpp"
#include "base/text.hpp"
#include "base/time_text.hpp"
#include "base/url.hpp"
#include "client/fd.hpp"
#include "distribution/transport.hpp"

namespace kiln::client {
namespace {

using nlohmann::json;

constexpr std::int64_t answer_bytes_max = 1 << 20;
constexpr std::chrono::seconds stall_timeout{60};
constexpr unsigned calls_at_once_max = 4;
constexpr std::int64_t default_expiry_seconds = 60;

// libcurl takes one bundle: the system's and ours are joined for the call.
result<std::string> join_bundles(const std::vector<std::string>& files) {
  std::string bundle;
  for (const char* system : {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"})
    if (auto pem = read_file(system, 16 << 20); pem.ok()) {
      bundle = *std::move(pem);
      break;
    }
  for (const auto& file : files) {
    KILN_TRY(auto pem, read_file(file, 16 << 20));
    bundle += "\n" + pem;
  }
  return bundle;
}

struct http_call {
  std::string url;
  std::string form;  // POST when not empty
  std::string username;
  std::string secret;
};

result<distribution::response> perform(const http_call& call, const auth_tls& tls) {
  static distribution::transport transport(calls_at_once_max);
  distribution::request r;
  r.url = call.url;
  r.stall_timeout = stall_timeout;
  r.max_body = answer_bytes_max;
  if (!call.form.empty()) {
    r.method = "POST";
    r.headers.push_back("Content-Type: application/x-www-form-urlencoded");
    r.body = call.form;
    r.follow_redirects = false;  // a form is the secret itself
  }
  if (!call.secret.empty())
    r.headers.push_back("Authorization: Basic " + base64_encode(call.username + ":" + call.secret));
  distribution::tls_settings trust;
  trust.verify = !tls.insecure;
  if (!tls.root_cas.empty()) {
    KILN_TRY(trust.ca_bundle, join_bundles(tls.root_cas));
  }
  for (const auto& [cert, key] : tls.key_pairs) trust.certificates.push_back({cert, key});
  r.tls = std::make_shared<distribution::tls_settings>(std::move(trust));
  return transport.perform(r);
}

bool success(const distribution::response& a) { return a.status >= 200 && a.status < 300; }

error unexpected(std::string_view method, const std::string& url, const distribution::response& a) {
  auto body = a.body.substr(0, 1024);
  return make_error(a.status == 401 || a.status == 403 ? errc::unauthenticated : errc::unknown,
                    fmt::format("unexpected status from {} request to {}: {}{}{}", method, url, a.status,
                                body.empty() ? "" : ": ", body));
}

result<fetched_token> get_token(const token_request& r, const auth_tls& tls) {
  std::string query;
  if (!r.service.empty()) query += "service=" + query_escape(r.service);
  for (const auto& scope : r.scopes) query += (query.empty() ? "" : "&") + ("scope=" + query_escape(scope));
  auto url = r.realm;
  if (!query.empty()) url += (url.find('?') == std::string::npos ? "?" : "&") + query;
  KILN_TRY(auto answer, perform({url, {}, r.username, r.secret}, tls));
  if (!success(answer)) return unexpected("GET", url, answer);
  return parse_token_answer(answer.body, false);
}

}  // namespace

result<fetched_token> parse_token_answer(std::string_view body, bool oauth) {
  auto parsed = json_or_null(body);
  if (!parsed.is_object()) return make_error(errc::unknown, "unable to decode token response");
  auto text = [&](const char* key) { return text_member(parsed, key); };
  fetched_token out;
  out.token = text("access_token");
  if (out.token.empty() && !oauth) out.token = text("token");
  if (out.token.empty())
    return make_error(errc::unknown, "authorization server did not include a token in the response");
  if (auto seconds = integer_member(parsed, "expires_in")) out.expires_seconds = *seconds;
  if (out.expires_seconds == 0) out.expires_seconds = default_expiry_seconds;
  if (auto issued = text("issued_at"); !issued.empty())
    out.issued_at_seconds = parse_rfc3339_clamped(issued).value_or(0) / 1'000'000'000;
  return out;
}

result<fetched_token> fetch_token(const token_request& r, const auth_tls& tls) {
  if (r.secret.empty()) {
    auto token = get_token(r, tls);
    if (!token.ok()) return std::move(token).error().with_context("failed to fetch anonymous token");
    return token;
  }
  auto fetched = [&]() -> result<fetched_token> {
    std::string form = "client_id=buildkit-client";
    if (r.username.empty()) form += "&grant_type=refresh_token&refresh_token=" + query_escape(r.secret);
    else form += "&grant_type=password&password=" + query_escape(r.secret);
    if (!r.scopes.empty()) form += "&scope=" + query_escape(join(r.scopes, " "));
    form += "&service=" + query_escape(r.service);
    if (!r.username.empty()) form += "&username=" + query_escape(r.username);
    KILN_TRY(auto answer, perform({r.realm, form, {}, {}}, tls));
    if (success(answer)) return parse_token_answer(answer.body, true);
    // Registries without POST support are known to answer so.
    if ((answer.status == 405 && !r.username.empty()) || answer.status == 404 || answer.status == 401)
      return get_token(r, tls);
    return unexpected("POST", r.realm, answer);
  }();
  if (!fetched.ok()) return std::move(fetched).error().with_context("failed to fetch oauth token");
  return fetched;
}

}  // namespace kiln::client
