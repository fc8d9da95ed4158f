#include "workers/sources/git_command.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "store/unique_fd.hpp"
#include "workers/sources/git_reference.hpp"

namespace kiln::workers {

namespace {

constexpr std::size_t max_output_bytes = 64u << 20;

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

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> p;
  for (auto& s : strings) p.push_back(s.data());
  p.push_back(nullptr);
  return p;
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

result<git_command::outcome> git_command::run_once(const std::vector<std::string>& arguments,
                                                   std::stop_token stop) const {
  // Keeps repositories from naming paths of this machine as submodules.
  std::vector<std::string> argv = {"git", "-c", "protocol.file.allow=user"};
  if (!work_tree.empty()) argv.insert(argv.end(), {"--work-tree", work_tree});
  if (!git_dir.empty()) argv.insert(argv.end(), {"--git-dir", git_dir});
  for (const auto& c : config) argv.insert(argv.end(), {"-c", c});
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  auto env = environment_of(*this);
  auto argv_pointers = pointers(argv);
  auto env_pointers = pointers(env);
  auto directory = work_tree.empty() ? std::string("/") : work_tree;

  int out_pipe[2];
  int err_pipe[2];
  if (pipe2(out_pipe, O_CLOEXEC) != 0) return errno_error(errno, "pipe");
  unique_fd out_read{out_pipe[0]};
  unique_fd out_write{out_pipe[1]};
  if (pipe2(err_pipe, O_CLOEXEC) != 0) return errno_error(errno, "pipe");
  unique_fd err_read{err_pipe[0]};
  unique_fd err_write{err_pipe[1]};
  unique_fd cancelled{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  unique_fd null{open("/dev/null", O_RDONLY | O_CLOEXEC)};

  auto pid = fork();
  if (pid < 0) return errno_error(errno, "starting git");
  if (pid == 0) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(null.get(), 0);
    dup2(out_write.get(), 1);
    dup2(err_write.get(), 2);
    umask(0022);
    if (chdir(directory.c_str()) != 0) _exit(127);
    execvpe("git", argv_pointers.data(), env_pointers.data());
    _exit(127);
  }
  out_write.reset();
  err_write.reset();

  outcome done;
  {
    std::stop_callback on_stop{stop, [&] {
                                 std::uint64_t one = 1;
                                 [[maybe_unused]] auto n = write(cancelled.get(), &one, sizeof one);
                               }};
    struct stream {
      unique_fd* fd;
      std::string* into;
    } streams[] = {{&out_read, &done.out}, {&err_read, &done.err}};
    char buffer[65536];
    bool killed = false;
    while (out_read || err_read) {
      pollfd fds[3] = {{out_read ? out_read.get() : -1, POLLIN, 0},
                       {err_read ? err_read.get() : -1, POLLIN, 0},
                       {killed ? -1 : cancelled.get(), POLLIN, 0}};
      if (poll(fds, 3, -1) < 0 && errno != EINTR) break;
      if (fds[2].revents) {
        kill(-pid, SIGKILL);
        killed = true;
      }
      for (int i = 0; i < 2; ++i) {
        if (!fds[i].revents) continue;
        auto n = read(streams[i].fd->get(), buffer, sizeof buffer);
        if (n <= 0) {
          streams[i].fd->reset();
        } else if (streams[i].into->size() + static_cast<std::size_t>(n) <= max_output_bytes) {
          streams[i].into->append(buffer, static_cast<std::size_t>(n));
        }
      }
    }
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  kill(-pid, SIGKILL);  // helpers that outlived git
  done.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  if (done.exit_code == 127 && done.err.empty()) done.err = "git is not installed";
  return done;
}

}  // namespace kiln::workers
