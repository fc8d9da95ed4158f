#include "exporters/cache/azure_tokens.hpp"

#include <unistd.h>

#include <algorithm>
#include <ctime>

#include "base/files.hpp"
#include "base/json_text.hpp"
#include "base/numbers.hpp"
#include "base/program.hpp"
#include "base/text.hpp"
#include "base/url.hpp"
#include "configs/remote_cache.hpp"
#include "exporters/cache/cache_attributes.hpp"
#include "exporters/cache/identity_request.hpp"

namespace kiln::exporters {
namespace {

error no_token(std::string text) { return make_error(errc::unauthenticated, std::move(text)); }

/// A number, or the text of one: services differ.
std::optional<std::int64_t> number_member(const nlohmann::json& j, const char* name) {
  if (auto number = integer_member(j, name)) return number;
  return parse_int(text_member(j, name));
}

result<azure_token> token_of(const distribution::response& r, const std::string& who) {
  auto j = json_or_null(r.body);
  azure_token out;
  out.secret = text_member(j, "access_token");
  if (r.status == 200 && !out.secret.empty() && out.secret.find_first_of("\r\n") == out.secret.npos) {
    // Nobody's token lives longer than a day; a greater number only overflows.
    auto lives = std::clamp<std::int64_t>(number_member(j, "expires_in").value_or(0), 0, 86'400);
    out.expires_s = number_member(j, "expires_on").value_or(std::time(nullptr) + lives);
    return out;
  }
  auto code = text_member(j, "error"), why = text_member(j, "error_description");
  return no_token(who + ": " + std::to_string(r.status) + (code.empty() ? "" : " " + code) +
                  (why.empty() ? "" : ": " + why));
}

/// The application of the environment, and the form fields that show we are it.
struct application {
  std::string authority, tenant, client;

  std::string address() const { return authority + "/" + url_escape(tenant) + "/oauth2/v2.0/token"; }

  /// Nothing when the environment has nothing to show.
  result<std::optional<std::string>> proof() const {
    auto asserted = [](const std::string& assertion) {
      return std::optional(
          "&client_assertion_type=" + url_escape("urn:ietf:params:oauth:client-assertion-type:jwt-bearer") +
          "&client_assertion=" + url_escape(assertion));
    };
    if (auto secret = environment("AZURE_CLIENT_SECRET"); !secret.empty())
      return std::optional("&client_secret=" + url_escape(secret));
    if (auto file = environment("AZURE_CLIENT_CERTIFICATE_PATH"); !file.empty()) {
      auto chain = to_lower(environment("AZURE_CLIENT_SEND_CERTIFICATE_CHAIN"));
      KILN_TRY(auto assertion,
               certificate_assertion(file, environment("AZURE_CLIENT_CERTIFICATE_PASSWORD"), client,
                                     address(), chain == "1" || chain == "true", std::time(nullptr)));
      return asserted(assertion);
    }
    if (auto file = environment("AZURE_FEDERATED_TOKEN_FILE"); !file.empty()) {
      auto token = read_token(file);
      if (token.empty())
        return no_token("azure: AZURE_FEDERATED_TOKEN_FILE " + file + " cannot be read or is empty");
      return asserted(token);
    }
    return std::optional<std::string>();
  }
};

// --- managed identities

std::string identity_query(const char* version) {
  auto out =
      std::string("?api-version=") + version + "&resource=" + url_escape(configs::azure_storage_resource);
  if (auto client = environment("AZURE_CLIENT_ID"); !client.empty())
    out += "&client_id=" + url_escape(client);
  return out;
}

/// Azure Arc: whoever may read a file the agent names is trusted.
result<azure_token> arc_token(distribution::transport& transport, const job_context& job,
                              const std::string& endpoint) {
  auto who = "Azure Arc's agent at " + endpoint;
  auto q = machine_request(job, "GET", endpoint + identity_query("2020-06-01"));
  q.headers = {"Metadata: true"};
  auto r = transport.perform(q);
  if (!r.ok()) return std::move(r).error().with_context(who);
  if (r->status == 401) {
    auto challenge = distribution::header_of(r->headers, "www-authenticate");
    const std::string realm = "Basic realm=";
    // Only where the agent writes them: the answer must not make us send any file's contents.
    auto file = challenge.starts_with(realm) ? challenge.substr(realm.size()) : std::string();
    if (!file.starts_with(configs::azure_arc_tokens) || !file.ends_with(".key") ||
        file.find("..") != std::string::npos)
      return no_token(who + " names no key of its own: \"" + challenge + "\"");
    KILN_TRY(auto key, read_file(file, configs::azure_arc_key_size));
    q.headers.push_back("Authorization: Basic " + std::string(trim(key)));
    r = transport.perform(q);
    if (!r.ok()) return std::move(r).error().with_context(who);
  }
  return token_of(*r, who);
}

}  // namespace

result<std::optional<azure_token>> application_token(distribution::transport& transport,
                                                     const job_context& job) {
  application a{environment("AZURE_AUTHORITY_HOST", configs::azure_authority), environment("AZURE_TENANT_ID"),
                environment("AZURE_CLIENT_ID")};
  while (a.authority.ends_with('/')) a.authority.pop_back();
  if (a.tenant.empty() || a.client.empty()) return std::optional<azure_token>();
  KILN_TRY(auto proof, a.proof());
  if (!proof) return std::optional<azure_token>();
  auto q = identity_request(job, "POST", a.address());
  q.headers = {"Content-Type: application/x-www-form-urlencoded"};
  q.body = "grant_type=client_credentials&client_id=" + url_escape(a.client) +
           "&scope=" + url_escape(configs::azure_storage_scope) + *proof;
  auto who =
      "azure: no token for application " + a.client + " of tenant " + a.tenant + " from " + a.authority;
  auto r = transport.perform(q);
  if (!r.ok()) return std::move(r).error().with_context(who);
  KILN_TRY(auto token, token_of(*r, who));
  return std::optional(std::move(token));
}

result<azure_token> machine_token(distribution::transport& transport, const job_context& job) {
  auto endpoint = environment("IDENTITY_ENDPOINT"), header = environment("IDENTITY_HEADER");
  if (!endpoint.empty() && !header.empty() && environment("IDENTITY_SERVER_THUMBPRINT").empty()) {
    auto q = machine_request(job, "GET", endpoint + identity_query("2019-08-01"));
    q.headers = {"X-IDENTITY-HEADER: " + header};
    auto who = "managed identity of the service at " + endpoint;
    auto r = transport.perform(q);
    if (!r.ok()) return std::move(r).error().with_context(who);
    return token_of(*r, who);
  }
  if (!endpoint.empty() && !environment("IMDS_ENDPOINT").empty()) return arc_token(transport, job, endpoint);
  auto base = environment("AZURE_POD_IDENTITY_AUTHORITY_HOST", configs::azure_instance_metadata);
  while (base.ends_with('/')) base.pop_back();
  auto who = "managed identity: metadata service at " + base;
  auto q =
      machine_request(job, "GET", base + "/metadata/identity/oauth2/token" + identity_query("2018-02-01"));
  q.headers = {"Metadata: true"};
  auto r = transport.perform(q);
  if (!r.ok()) return std::move(r).error().with_context(who);
  return token_of(*r, who);
}

result<azure_token> cli_token(const job_context& job) {
  program_call call{
      {"az", "account", "get-access-token", "-o", "json", "--resource", configs::azure_storage_resource},
      {},
      "/"};
  if (auto tenant = environment("AZURE_TENANT_ID"); !tenant.empty()) {
    call.argv.push_back("--tenant");
    call.argv.push_back(tenant);
  }
  call.environment = own_environment();
  auto done = run_program(std::move(call), job.stop);
  if (!done.ok()) return std::move(done).error().with_context("Azure CLI");
  if (done->exit_code != 0)
    return no_token("Azure CLI: " + std::string(trim(done->err.substr(0, configs::helper_error_size))));
  auto j = json_or_null(done->out);
  azure_token out;
  out.secret = text_member(j, "accessToken");
  if (out.secret.empty() || out.secret.find_first_of("\r\n") != out.secret.npos)
    return no_token("Azure CLI: no accessToken in its output");
  // Old versions tell it in local time only: then it is asked again soon.
  out.expires_s = number_member(j, "expires_on").value_or(0);
  return out;
}

}  // namespace kiln::exporters
