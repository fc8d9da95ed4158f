#include "workers/sources/git_command.hpp"

#include <algorithm>
#include <cstdlib>

#include "workers/sources/git_reference.hpp"

namespace kiln::workers {

namespace {

std::vector<std::string> environment_of(const git_command& g) {
  std::vector<std::string> env;
  for (auto name : {"PATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy",
                    "all_proxy", "TMPDIR"})
    if (auto* value = std::getenv(name)) env.push_back(std::string(name) + "=" + value);
  auto ssh = std::string("ssh -F /dev/null ");
  ssh += g.known_hosts_file.empty() ? "-o StrictHostKeyChecking=no" : "-o UserKnownHostsFile=" + g.known_hosts_file;
  env.push_back("GIT_SSH_COMMAND=" + ssh);
  env.insert(env.end(), {"GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1", "HOME=/dev/null",
                         "GIT_CONFIG_GLOBAL=/dev/null", "LC_ALL=C"});
  if (!g.ssh_auth_sock.empty()) env.push_back("SSH_AUTH_SOCK=" + g.ssh_auth_sock);
  return env;
}

/// Drops the arguments that an old or strict server stumbled over; false when there are none.
bool simplify(std::vector<std::string>& arguments, const std::string& complaint) {
  auto mentions = [&](std::string_view text) { return complaint.find(text) != std::string::npos; };
  if (mentions("--depth") || mentions("shallow"))
    if (std::erase(arguments, "--depth=1") > 0) return true;
  if ((mentions("not our ref") || mentions("unadvertised object")) && arguments.size() > 2 && arguments[0] == "fetch" &&
      is_commit_sha(arguments.back())) {
    arguments.pop_back();
    return true;
  }
  return false;
}

}  // namespace

result<std::string> git_command::run(std::vector<std::string> arguments, std::stop_token stop) const {
  for (;;) {
    KILN_TRY(auto done, run_once(arguments, stop));
    if (done.exit_code == 0) return std::move(done.out);
    if (stop.stop_requested()) return make_error(errc::cancelled, "context canceled");
    if (simplify(arguments, done.err)) continue;
    return make_error(errc::unknown, "git stderr:\n" + done.err + ": exit status " + std::to_string(done.exit_code));
  }
}

result<program_outcome> git_command::run_once(const std::vector<std::string>& arguments,
                                              std::stop_token stop) const {
  // Keeps repositories from naming paths of this machine as submodules.
  std::vector<std::string> argv = {"git", "-c", "protocol.file.allow=user"};
  if (!work_tree.empty()) argv.insert(argv.end(), {"--work-tree", work_tree});
  if (!git_dir.empty()) argv.insert(argv.end(), {"--git-dir", git_dir});
  for (const auto& c : config) argv.insert(argv.end(), {"-c", c});
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return run_program({std::move(argv), environment_of(*this), work_tree.empty() ? "/" : work_tree}, std::move(stop));
}

}  // namespace kiln::workers
