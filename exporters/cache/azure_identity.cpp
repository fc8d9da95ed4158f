#include "exporters/cache/azure_identity.hpp"

#include <fstream>
#include <iterator>

#include "base/json_text.hpp"
#include "base/url.hpp"
#include "configs/remote_cache.hpp"
#include "exporters/cache/cache_attributes.hpp"

namespace kiln::exporters {

std::shared_ptr<azure_identity> azure_identity::of_environment() {
  auto out = std::make_shared<azure_identity>();
  out->authority_ = environment("AZURE_AUTHORITY_HOST", configs::azure_authority);
  while (out->authority_.ends_with('/')) out->authority_.pop_back();
  out->tenant_ = environment("AZURE_TENANT_ID");
  out->client_ = environment("AZURE_CLIENT_ID");
  out->secret_ = environment("AZURE_CLIENT_SECRET");
  out->token_file_ = environment("AZURE_FEDERATED_TOKEN_FILE");
  if (out->tenant_.empty() || out->client_.empty() || (out->secret_.empty() && out->token_file_.empty()))
    return nullptr;
  return out;
}

/// The form fields that show we are that application. The token file is read anew: its writer rotates it.
result<std::string> azure_identity::proof() const {
  if (!secret_.empty()) return "&client_secret=" + url_escape(secret_);
  std::ifstream in(token_file_);
  std::string token{std::istreambuf_iterator<char>(in), {}};
  while (token.ends_with('\n') || token.ends_with('\r')) token.pop_back();
  if (token.empty())
    return make_error(errc::unauthenticated,
                      "azure: AZURE_FEDERATED_TOKEN_FILE " + token_file_ + " cannot be read or is empty");
  return "&client_assertion_type=" + url_escape("urn:ietf:params:oauth:client-assertion-type:jwt-bearer") +
         "&client_assertion=" + url_escape(token);
}

result<std::string> azure_identity::token(distribution::transport& transport, const job_context& job) {
  std::lock_guard lock(mutex_);
  auto now = std::chrono::steady_clock::now();
  if (now < good_until_) return token_;
  distribution::request q;
  q.method = "POST";
  q.url = authority_ + "/" + url_escape(tenant_) + "/oauth2/v2.0/token";
  q.stop = job.stop;
  q.follow_redirects = false;
  q.headers = {"Content-Type: application/x-www-form-urlencoded"};
  KILN_TRY(auto shown, proof());
  q.body = "grant_type=client_credentials&client_id=" + url_escape(client_) +
           "&scope=" + url_escape(configs::azure_storage_scope) + shown;
  auto who = "azure: no token for application " + client_ + " of tenant " + tenant_ + " from " + authority_;
  auto r = transport.perform(q);
  if (!r.ok()) return std::move(r).error().with_context(who);
  auto j = json_or_null(r->body);
  auto text = [&](const char* name) { return text_member(j, name); };
  if (auto token = text("access_token"); r->status == 200 && !token.empty()) {
    // Nobody's token lives longer than a day; a greater number only overflows.
    auto seconds = std::clamp<std::int64_t>(integer_member(j, "expires_in").value_or(0), 0, 86'400);
    auto lifetime = std::chrono::seconds(seconds);
    token_ = std::move(token);
    good_until_ = now + lifetime - configs::azure_token_margin;
    return token_;
  }
  auto code = text("error"), why = text("error_description");
  return make_error(errc::unauthenticated, who + ": " + std::to_string(r->status) +
                                               (code.empty() ? "" : " " + code) +
                                               (why.empty() ? "" : ": " + why));
}

}  // namespace kiln::exporters
