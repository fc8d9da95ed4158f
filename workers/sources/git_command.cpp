#include "workers/sources/git_command.hpp"

#include <algorithm>
#include <cstdlib>

#include "workers/sources/git_reference.hpp"

namespace kiln::workers {

namespace {

/// ssh finds its user's home by uid, whatever HOME says: the daemon's own keys are for no build, and no
/// build's host gets into its known hosts.
std::string ssh_command(const std::string& known_hosts_file) {
  std::string ssh =
      "ssh -F /dev/null -o IdentityFile=none -o BatchMode=yes -o GlobalKnownHostsFile=/dev/null ";
  if (known_hosts_file.empty()) return ssh + "-o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no";
  return ssh + "-o UserKnownHostsFile=" + known_hosts_file;
}

std::vector<std::string> environment_of(const git_command& g) {
  std::vector<std::string> env;
  for (auto name : {"PATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy",
                    "no_proxy", "all_proxy", "TMPDIR"})
    if (auto* value = std::getenv(name)) env.push_back(std::string(name) + "=" + value);
  env.push_back("GIT_SSH_COMMAND=" + ssh_command(g.known_hosts_file));
  // Wins over every configuration, and reaches the submodules' own gits.
  env.push_back(std::string("GIT_ALLOW_PROTOCOL=") +
                (g.from == git_command::reach::daemon ? "file" : "http:https:ssh:git"));
  env.insert(env.end(), {"GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1", "HOME=/dev/null",
                         "GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C"});
  if (!g.ssh_auth_sock.empty()) env.push_back("SSH_AUTH_SOCK=" + g.ssh_auth_sock);
  env.push_back("GIT_CONFIG_COUNT=" + std::to_string(g.config.size()));
  for (std::size_t i = 0; i < g.config.size(); ++i) {
    env.push_back("GIT_CONFIG_KEY_" + std::to_string(i) + "=" + g.config[i].first);
    env.push_back("GIT_CONFIG_VALUE_" + std::to_string(i) + "=" + g.config[i].second);
  }
  return env;
}

/// Drops the arguments that an old or strict server stumbled over; false when there are none.
bool simplify(std::vector<std::string>& arguments, const std::string& complaint) {
  auto mentions = [&](std::string_view text) { return complaint.find(text) != std::string::npos; };
  if (mentions("--depth") || mentions("shallow"))
    if (std::erase(arguments, "--depth=1") > 0) return true;
  if ((mentions("not our ref") || mentions("unadvertised object")) && arguments.size() > 2 &&
      arguments[0] == "fetch" && is_commit_sha(arguments.back())) {
    arguments.pop_back();
    return true;
  }
  return false;
}

}  // namespace

result<std::string> git_command::run(std::vector<std::string> arguments, std::stop_token stop) const {
  return run(std::move(arguments), log, std::move(stop));
}

result<std::string> git_command::ask(std::vector<std::string> arguments, std::stop_token stop) const {
  return run(std::move(arguments), nullptr, std::move(stop));
}

git_command git_command::reading(const std::string& directory) const {
  auto out = *this;
  out.from = reach::daemon;
  // Through file:// and not a plain path: local clones copy files of the host by name.
  out.remote = "file://" + directory;
  return out;
}

result<std::string> git_command::run(std::vector<std::string> arguments, progress_sink* told,
                                     std::stop_token stop) const {
  for (;;) {
    KILN_TRY(auto done, run_once(arguments, told, stop));
    if (done.exit_code == 0) return std::move(done.out);
    if (stop.stop_requested()) return make_error(errc::cancelled, "context canceled");
    if (simplify(arguments, done.err)) continue;
    return make_error(errc::unknown,
                      "git stderr:\n" + done.err + ": exit status " + std::to_string(done.exit_code));
  }
}

result<program_outcome> git_command::run_once(const std::vector<std::string>& arguments, progress_sink* told,
                                              std::stop_token stop) const {
  // Nothing that lies in a repository runs, and servers name no further places to fetch from.
  std::vector<std::string> argv = {"git",
                                   "-c",
                                   "core.hooksPath=/dev/null",
                                   "-c",
                                   "core.fsmonitor=false",
                                   "-c",
                                   "transfer.bundleURI=false",
                                   "-c",
                                   "advice.detachedHead=false"};
  if (!work_tree.empty()) argv.insert(argv.end(), {"--work-tree", work_tree});
  if (!git_dir.empty()) argv.insert(argv.end(), {"--git-dir", git_dir});
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  program_call call{std::move(argv), environment_of(*this), work_tree.empty() ? "/" : work_tree};
  if (told != nullptr)
    call.on_output = [told](int stream, std::string_view bytes) { told->log(stream, bytes); };
  return run_program(std::move(call), std::move(stop));
}

}  // namespace kiln::workers
