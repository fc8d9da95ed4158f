#include "workers/sources/git_access.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <vector>

#include <spdlog/spdlog.h>

#include "base/base64.hpp"
#include "base/files.hpp"
#include "base/url.hpp"
#include "distribution/hosts.hpp"
#include "secrets.pb.h"

namespace kiln::workers {

namespace {

constexpr int redirects_max = 10;
constexpr std::chrono::milliseconds secret_timeout{60'000};
constexpr int agent_socket_mode = 0700;

/// "user:password" of a URL as a header.
std::string sign_in(const std::string& user_info) {
  auto colon = user_info.find(':');
  auto password = colon == std::string::npos ? "" : user_info.substr(colon + 1);
  return "basic " + base64_encode(url_unescape(user_info.substr(0, colon)) + ":" + url_unescape(password));
}

/// What the client's secrets say for the host; empty when they say nothing: most repositories are public.
result<std::string> ask_client(const git_reference& r, const job_context& job) {
  if (r.auth_header_secret.empty() && r.auth_token_secret.empty()) return std::string();
  if (!job.directory || job.sessions.ids.empty()) return std::string();
  struct candidate {
    std::string name;
    bool token;
  };
  std::vector<candidate> candidates;
  for (const auto& suffix : {"." + r.where.url.authority(), std::string()}) {
    if (!r.auth_header_secret.empty()) candidates.push_back({r.auth_header_secret + suffix, false});
    if (!r.auth_token_secret.empty()) candidates.push_back({r.auth_token_secret + suffix, true});
  }
  std::string value;
  auto asked =
      with_any_session(*job.directory, job.sessions, job.stop, [&](session_caller& session) -> status {
        for (const auto& c : candidates) {
          moby::buildkit::secrets::v1::GetSecretRequest request;
          request.set_id(c.name);
          auto answer = session.call("/moby.buildkit.secrets.v1.Secrets/GetSecret",
                                     request.SerializeAsString(), {}, secret_timeout, job.stop);
          if (!answer.ok()) {
            if (answer.error().code == errc::not_found || answer.error().code == errc::unimplemented)
              continue;
            return std::move(answer).error();
          }
          moby::buildkit::secrets::v1::GetSecretResponse secret;
          if (!secret.ParseFromString(*answer)) return make_error(errc::data_loss, "malformed secret");
          value = c.token ? "basic " + base64_encode("x-access-token:" + secret.data()) : secret.data();
          return {};
        }
        return {};
      });
  if (!asked.ok() && asked.error().code == errc::cancelled) return std::move(asked).error();
  if (value.find_first_of("\r\n") != std::string::npos)
    return make_error(errc::invalid_argument, "the secret " + r.auth_header_secret + " has a line break");
  return value;
}

/// Where the remote answers, if it has moved within its host; empty when it is redirected to another.
result<std::string> followed(distribution::transport& transport, std::string remote,
                             const std::string& authorization, const job_context& job) {
  constexpr std::string_view listing = "/info/refs?service=git-upload-pack";
  for (int i = 0; i < redirects_max; ++i) {
    distribution::request get;
    get.url = remote + std::string(listing);
    get.headers = {"Authorization: " + authorization};
    get.follow_redirects = false;
    get.stop = job.stop;
    get.on_body = [](const distribution::response&, std::string_view) -> status { return {}; };
    auto answer = transport.perform(get);
    if (!answer.ok() && answer.error().code == errc::cancelled) return std::move(answer).error();
    if (!answer.ok() || answer->status < 300 || answer->status >= 400)
      return remote;  // git will say what is wrong
    auto next = resolve_url(get.url, distribution::header_of(answer->headers, "location"));
    if (!next.ends_with(listing)) return remote;
    if (!same_origin(next, remote)) return std::string();
    remote = next.substr(0, next.size() - listing.size());
  }
  return make_error(errc::unknown, "too many redirects: " + redact_credentials(remote));
}

}  // namespace

temporary_directory::~temporary_directory() {
  if (path.empty()) return;
  if (auto gone = remove_tree(path); !gone) spdlog::warn("git: {}", gone.error().message);
}

status git_access::give(git_command& git, const git_reference& r, const job_context& job) {
  git.remote = r.where.str(false);
  git.log = job.progress;
  KILN_CHECK(give_ssh(git, r, job));
  return r.bundle ? status{} : sign_in_at(git, r, job);
}

status git_access::give_ssh(git_command& git, const git_reference& r, const job_context& job) {
  if (!r.known_ssh_hosts.empty()) {
    KILN_TRY(auto directory, scratch_.make("known-hosts"));
    known_hosts_.path = directory.string();
    git.known_hosts_file = (directory / "known_hosts").string();
    KILN_TRY(auto file, open_file(git.known_hosts_file, O_WRONLY | O_CREAT | O_EXCL, 0600));
    KILN_CHECK(write_all(file.get(), r.known_ssh_hosts));
  }
  if (r.ssh_id.empty()) return {};
  KILN_TRY(auto directory, scratch_.make("ssh-agent"));
  pb::SSHOpt options;
  options.set_id(r.ssh_id);
  options.set_uid(::geteuid());
  options.set_gid(::getegid());
  options.set_mode(agent_socket_mode);
  KILN_TRY(agent_, ssh_socket::open(options, directory.string(), job));
  // Socket paths are short; the state directory's may not be.
  KILN_TRY(agent_directory_, open_file(directory.string(), O_PATH | O_DIRECTORY, 0));
  git.ssh_auth_sock = "/proc/" + std::to_string(::getpid()) + "/fd/" +
                      std::to_string(agent_directory_.get()) + "/" +
                      std::filesystem::path(agent_->path()).filename().string();
  return {};
}

status git_access::sign_in_at(git_command& git, const git_reference& r, const job_context& job) {
  const auto& url = r.where.url;
  if (url.scheme != "https" && url.scheme != "http") return {};
  KILN_TRY(auto authorization, ask_client(r, job));
  // What is written in the URL was meant for this very URL; secrets are for the host.
  bool written = authorization.empty() && !url.user_info.empty();
  if (written) authorization = sign_in(url.user_info);
  if (authorization.empty()) return {};
  if (url.scheme == "http" && !written && !distribution::is_localhost(url.host)) {
    job.progress->warn("git credentials are not sent to " + url.origin() + ": it is not https");
    return {};
  }
  KILN_TRY(auto answers_at, followed(transport_, git.remote, authorization, job));
  if (answers_at.empty()) {
    job.progress->warn("git credentials are not sent to " + url.origin() +
                       ": it redirects to another host, which would get them too");
    return {};
  }
  git.remote = answers_at;
  git.config.emplace_back("http." + url.origin() + "/.extraheader", "Authorization: " + authorization);
  // git would send the header along to wherever its first request is redirected.
  git.config.emplace_back("http." + url.origin() + "/.followRedirects", "false");
  return {};
}

}  // namespace kiln::workers
