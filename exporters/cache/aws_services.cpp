#include "exporters/cache/aws_services.hpp"

#include <openssl/sha.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <functional>

#include "base/files.hpp"
#include "base/json_text.hpp"
#include "base/program.hpp"
#include "base/text.hpp"
#include "base/time_text.hpp"
#include "base/url.hpp"
#include "configs/remote_cache.hpp"
#include "exporters/cache/cache_attributes.hpp"
#include "exporters/cache/identity_request.hpp"
#include "exporters/cache/request_text.hpp"

namespace kiln::exporters {
namespace {

error no_keys(std::string text) { return make_error(errc::unauthenticated, std::move(text)); }

constexpr std::int64_t nanoseconds = 1'000'000'000;

std::optional<std::int64_t> seconds_of(const std::string& time) {
  auto ns = parse_rfc3339(time);
  if (!ns) return {};
  return *ns / nanoseconds;
}

/// The answer with these words before a failure; a status other than 2xx is one.
result<distribution::response> answer(const service_caller& c, const distribution::request& q,
                                      const std::string& who) {
  auto r = c.transport.perform(q);
  if (!r.ok()) return std::move(r).error().with_context(who);
  if (r->status >= 200 && r->status < 300) return r;
  auto code = xml_text(r->body, "Code"), message = xml_text(r->body, "Message");
  if (code.empty()) {
    auto j = json_or_null(r->body);
    code = text_member(j, "code");
    message = text_member(j, "message");
  }
  return no_keys(who + ": " + std::to_string(r->status) + (code.empty() ? "" : " " + code) +
                 (message.empty() ? "" : ": " + message));
}

/// {"AccessKeyId", "SecretAccessKey", `token`, "Expiration"}.
result<aws_keys> keys_of_json(const std::string& text, const char* token, const std::string& who) {
  auto j = json_or_null(text);
  aws_keys out;
  out.secret = {text_member(j, "AccessKeyId"), text_member(j, "SecretAccessKey"), text_member(j, token)};
  if (out.secret.key_id.empty() || out.secret.secret.empty()) {
    auto code = text_member(j, "Code"), message = text_member(j, "Message");
    return no_keys(who + ": no keys in the answer" + (code.empty() ? "" : ", " + code) +
                   (message.empty() ? "" : ": " + message));
  }
  out.expires_s = seconds_of(text_member(j, "Expiration"));
  return out;
}

// --- the token service

std::string sts_url(const service_caller& c) {
  auto url = environment("AWS_ENDPOINT_URL_STS", environment("AWS_ENDPOINT_URL"));
  return url.empty() ? "https://sts." + c.region + "." + aws_domain(c.region) + "/" : url + "/";
}

std::string form_of(const assumed_role& role, const char* action) {
  auto session = role.session_name.empty() ? "kiln-" + std::to_string(std::time(nullptr)) : role.session_name;
  auto form = std::string("Action=") + action + "&Version=2011-06-15&RoleArn=" + url_escape(role.arn) +
              "&RoleSessionName=" + url_escape(session);
  if (!role.duration_seconds.empty()) form += "&DurationSeconds=" + url_escape(role.duration_seconds);
  return form;
}

result<aws_keys> sts_keys(const service_caller& c, distribution::request q, const std::string& who) {
  KILN_TRY(auto r, answer(c, q, who));
  aws_keys out;
  out.secret = {xml_text(r.body, "AccessKeyId"), xml_text(r.body, "SecretAccessKey"),
                xml_text(r.body, "SessionToken")};
  if (out.secret.key_id.empty() || out.secret.secret.empty()) return no_keys(who + ": no keys in the answer");
  out.expires_s = seconds_of(xml_text(r.body, "Expiration"));
  return out;
}

// --- single sign-on

struct sso_login {
  std::string file, region;
  nlohmann::json kept;  // what the login left there
};

std::string sha1_hex(const std::string& text) {
  unsigned char out[SHA_DIGEST_LENGTH];
  SHA1(reinterpret_cast<const unsigned char*>(text.data()), text.size(), out);
  return to_hex({reinterpret_cast<const char*>(out), sizeof out});
}

bool expired(const nlohmann::json& login) {
  auto at = seconds_of(text_member(login, "expiresAt"));
  return !at || *at <= std::time(nullptr) + configs::secret_margin.count();
}

/// Gets the login a new token and writes it where the tools look for it; false when it cannot be renewed.
bool renew(const service_caller& c, sso_login& login) {
  nlohmann::json body{{"grantType", "refresh_token"}};
  for (const char* part : {"clientId", "clientSecret", "refreshToken"}) {
    auto text = text_member(login.kept, part);
    if (text.empty()) return false;
    body[part] = text;
  }
  auto url = environment("AWS_ENDPOINT_URL_SSO_OIDC", environment("AWS_ENDPOINT_URL"));
  if (url.empty()) url = "https://oidc." + login.region + "." + aws_domain(login.region);
  auto q = identity_request(c.job, "POST", url + "/token");
  q.headers = {"Content-Type: application/json"};
  q.body = json_text(body);
  auto r = answer(c, q, "sso");
  if (!r.ok()) return false;
  auto j = json_or_null(r->body);
  auto token = text_member(j, "accessToken");
  if (token.empty()) return false;
  auto lives = std::clamp<std::int64_t>(integer_member(j, "expiresIn").value_or(0), 0, 86'400);
  login.kept["accessToken"] = token;
  login.kept["expiresAt"] = format_rfc3339_seconds(std::time(nullptr) + lives);
  if (auto next = text_member(j, "refreshToken"); !next.empty()) login.kept["refreshToken"] = next;
  (void)write_file(login.file, json_text(login.kept));  // when that fails, the next one asks, too
  return true;
}

}  // namespace

bool is_aws_region(std::string_view region) {
  return !region.empty() && std::all_of(region.begin(), region.end(), [](unsigned char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
  });
}

std::string aws_domain(const std::string& region) {
  return region.starts_with("cn-") ? "amazonaws.com.cn" : "amazonaws.com";
}

result<aws_keys> instance_keys(const service_caller& c) {
  auto url = environment("AWS_EC2_METADATA_SERVICE_ENDPOINT",
                         to_lower(environment("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE")) == "ipv6"
                             ? configs::aws_instance_metadata_6
                             : configs::aws_instance_metadata);
  while (url.ends_with('/')) url.pop_back();
  auto who = "instance metadata service at " + url;
  auto token_q = machine_request(c.job, "PUT", url + "/latest/api/token");
  token_q.headers = {"x-aws-ec2-metadata-token-ttl-seconds: 21600"};
  auto token_r = c.transport.perform(token_q);
  if (!token_r.ok()) return std::move(token_r).error().with_context(who);
  std::vector<std::string> with_token;
  if (token_r->status == 200) {
    with_token.push_back("x-aws-ec2-metadata-token: " + token_r->body);
  } else if (token_r->status == 400 || to_lower(environment("AWS_EC2_METADATA_V1_DISABLED")) == "true") {
    return no_keys(who + ": no session token: " + std::to_string(token_r->status));
  }  // a service of version 1 has no tokens
  auto get = [&](const std::string& path) -> result<std::string> {
    auto q = machine_request(c.job, "GET", url + path);
    q.headers = with_token;
    KILN_TRY(auto r, answer(c, q, who));
    return std::string(trim(r.body));
  };
  const std::string roles = "/latest/meta-data/iam/security-credentials/";
  KILN_TRY(auto role, get(roles));
  role = role.substr(0, role.find('\n'));
  if (role.empty()) return no_keys(who + ": the instance has no role");
  KILN_TRY(auto text, get(roles + url_escape(role)));
  return keys_of_json(text, "Token", who);
}

result<aws_keys> container_keys(const service_caller& c) {
  auto url = environment("AWS_CONTAINER_CREDENTIALS_FULL_URI");
  if (auto relative = environment("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"); !relative.empty())
    url = configs::aws_container_agent + relative;
  auto u = parse_url(url);
  if (!u.ok()) return std::move(u).error().with_context("AWS_CONTAINER_CREDENTIALS_FULL_URI");
  const auto& near = configs::aws_container_hosts;
  if (u->scheme != "https" && std::find(std::begin(near), std::end(near), u->host) == std::end(near))
    return make_error(errc::permission_denied, "AWS_CONTAINER_CREDENTIALS_FULL_URI " + u->origin() +
                                                   " is neither https nor an address of the machine");
  auto who = "container credentials at " + u->origin();
  auto q = machine_request(c.job, "GET", url);
  auto token = environment("AWS_CONTAINER_AUTHORIZATION_TOKEN");
  if (auto file = environment("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"); !file.empty()) {
    token = read_token(file);
    if (token.empty())
      return no_keys("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE " + file + " cannot be read or is empty");
  }
  if (token.find_first_of("\r\n") != token.npos) return no_keys(who + ": the authorization token is no line");
  if (!token.empty()) q.headers.push_back("Authorization: " + token);
  KILN_TRY(auto r, answer(c, q, who));
  return keys_of_json(r.body, "Token", who);
}

result<aws_keys> assume_role(const service_caller& c, const aws_credentials& who, const assumed_role& role) {
  auto q = identity_request(c.job, "POST", sts_url(c));
  q.body = form_of(role, "AssumeRole");
  if (!role.external_id.empty()) q.body += "&ExternalId=" + url_escape(role.external_id);
  aws_request signed_part;
  signed_part.method = q.method;
  signed_part.host = host_of_url(q.url);
  signed_part.path = path_of_url(q.url);
  signed_part.headers["content-type"] = "application/x-www-form-urlencoded";
  signed_part.payload_sha256 = std::string(sha256(q.body).hex());
  for (const auto& [name, value] : aws_signed_headers(signed_part, who, c.region, "sts", std::time(nullptr)))
    q.headers.push_back(name + ": " + value);
  return sts_keys(c, std::move(q), "assuming role " + role.arn);
}

result<aws_keys> assume_role_by_token(const service_caller& c, const std::string& token_file,
                                      const assumed_role& role) {
  if (role.arn.empty())
    return no_keys("a web identity token in " + token_file + ", but no role for it: set AWS_ROLE_ARN");
  auto token = read_token(token_file);
  if (token.empty()) return no_keys("web identity token " + token_file + " cannot be read or is empty");
  auto q = identity_request(c.job, "POST", sts_url(c));
  q.headers = {"Content-Type: application/x-www-form-urlencoded"};
  q.body = form_of(role, "AssumeRoleWithWebIdentity") + "&WebIdentityToken=" + url_escape(token);
  return sts_keys(c, std::move(q), "assuming role " + role.arn + " by the token in " + token_file);
}

result<aws_keys> sso_keys(const service_caller& c, const aws_settings& profile, const aws_settings& session) {
  auto setting = [&](const char* name) {
    for (const auto* from : {&session, &profile})
      if (auto it = from->find(name); it != from->end()) return it->second;
    return std::string();
  };
  auto session_name = setting("sso_session"), start = setting("sso_start_url");
  sso_login login;
  login.region = setting("sso_region");
  login.file = environment("HOME", "/root") + "/.aws/sso/cache/" +
               sha1_hex(session_name.empty() ? start : session_name) + ".json";
  auto who = "single sign-on at " + start;
  for (const char* name : {"sso_start_url", "sso_region", "sso_account_id", "sso_role_name"})
    if (setting(name).empty()) return no_keys(who + ": " + name + " is not set");
  if (!is_aws_region(login.region))
    return no_keys(who + ": sso_region \"" + login.region + "\" is no region");
  auto text = read_file(login.file, configs::sso_login_size);
  if (text.ok()) login.kept = json_or_null(*text);
  if (text_member(login.kept, "accessToken").empty())
    return no_keys(who + ": nobody has logged in (" + login.file + "): run aws sso login");
  if (expired(login.kept) && !renew(c, login) &&
      seconds_of(text_member(login.kept, "expiresAt")).value_or(0) <= std::time(nullptr))
    return no_keys(who + ": the login has expired: run aws sso login");
  auto url = environment("AWS_ENDPOINT_URL_SSO", environment("AWS_ENDPOINT_URL"));
  if (url.empty()) url = "https://portal.sso." + login.region + "." + aws_domain(login.region);
  auto q =
      identity_request(c.job, "GET",
                       url + "/federation/credentials?account_id=" + url_escape(setting("sso_account_id")) +
                           "&role_name=" + url_escape(setting("sso_role_name")));
  auto token = text_member(login.kept, "accessToken");
  if (token.find_first_of("\r\n") != token.npos) return no_keys(who + ": the login's token is no line");
  q.headers = {"x-amz-sso_bearer_token: " + token};
  KILN_TRY(auto r, answer(c, q, who));
  auto j = json_or_null(r.body);
  const auto* given = member_of(j, "roleCredentials");
  aws_keys out;
  if (given)
    out.secret = {text_member(*given, "accessKeyId"), text_member(*given, "secretAccessKey"),
                  text_member(*given, "sessionToken")};
  if (out.secret.key_id.empty() || out.secret.secret.empty()) return no_keys(who + ": no keys in the answer");
  if (auto ms = integer_member(*given, "expiration")) out.expires_s = *ms / 1'000;
  return out;
}

result<aws_keys> process_keys(const service_caller& c, const std::string& command) {
  program_call call{{"/bin/sh", "-c", command}, {}, "/"};
  call.environment = own_environment();
  KILN_TRY(auto done, run_program(std::move(call), c.job.stop));
  auto program = "credential_process " + command.substr(0, command.find(' '));
  if (done.exit_code != 0)
    return no_keys(program + ": exit code " + std::to_string(done.exit_code) + ": " +
                   std::string(trim(done.err.substr(0, configs::helper_error_size))));
  if (integer_member(json_or_null(done.out), "Version") != 1)
    return no_keys(program + ": its output is not of version 1");
  return keys_of_json(done.out, "SessionToken", program);
}

}  // namespace kiln::exporters
