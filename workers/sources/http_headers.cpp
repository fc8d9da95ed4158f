#include "workers/sources/http_headers.hpp"

#include <utility>

#include "base/url.hpp"
#include "configs/sources.hpp"
#include "secrets.pb.h"

namespace kiln::workers {

namespace {

namespace secrets = moby::buildkit::secrets::v1;

result<std::string> get_secret(const std::string& name, const job_context& job) {
  if (job.directory == nullptr) return make_error(errc::failed_precondition, "no active sessions");
  secrets::GetSecretRequest req;
  req.set_id(name);
  secrets::GetSecretResponse answer;
  KILN_CHECK(with_any_session(*job.directory, job.sessions, job.stop, [&](session_caller& s) -> status {
    KILN_TRY(std::string bytes, s.call("/moby.buildkit.secrets.v1.Secrets/GetSecret", req.SerializeAsString(),
                                       {}, configs::source_call_timeout, job.stop));
    if (!answer.ParseFromString(bytes)) return make_error(errc::internal, "client sent an unreadable secret");
    return {};
  }));
  return answer.data();
}

/// The value of the Authorization header; empty when nobody has one.
result<std::string> authorization_for(const http_reference& w, const std::string& host,
                                      const job_context& job) {
  std::vector<std::pair<std::string, std::string>> names;  // of secrets, with what stands before their bytes
  if (!w.auth_secret.empty()) names = {{w.auth_secret, ""}};
  else names = {{"HTTP_AUTH_HEADER_" + host, ""}, {"HTTP_AUTH_TOKEN_" + host, "Bearer "}};
  std::string out;
  for (const auto& [name, prefix] : names) {
    auto secret = get_secret(name, job);
    if (!secret.ok()) {
      if (secret.error().code == errc::cancelled) return std::move(secret).error();
      if (!w.auth_secret.empty())
        return std::move(secret).error().with_context("failed to retrieve HTTP auth secret " + name);
      continue;
    }
    out = prefix + *secret;
  }
  if (out.find_first_of("\r\n") != out.npos)
    return make_error(errc::invalid_argument, "the HTTP auth secret for " + host + " has a line break");
  return out;
}

}  // namespace

result<std::vector<std::string>> download_headers(const http_reference& w, const distribution::hosts& hosts,
                                                  const job_context& job) {
  std::vector<std::string> out;
  for (const auto& [name, value] : w.headers) out.push_back(name + ": " + value);
  KILN_TRY(auto url, parse_url(w.url));
  auto host = url.host.starts_with('[') ? url.host.substr(1, url.host.size() - 2) : url.host;
  KILN_TRY(auto authorization, authorization_for(w, host, job));
  // The one named by the source was meant for this very URL; the others for the host.
  bool clear = url.scheme == "http" && !hosts.plain_allowed(url.authority());
  if (!authorization.empty() && clear && w.auth_secret.empty()) {
    job.progress->warn("the HTTP auth secret for " + host + " is not sent to " + url.origin() +
                       ": it is not https");
  } else if (!authorization.empty()) {
    out.push_back("Authorization: " + authorization);
  }
  return out;
}

}  // namespace kiln::workers
