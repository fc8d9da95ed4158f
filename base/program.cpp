#include "base/program.hpp"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <string_view>

#include "base/open_files.hpp"
#include "base/unique_fd.hpp"

namespace kiln {

namespace {

constexpr std::size_t max_output_bytes = 64u << 20;
constexpr int not_started = 127;
constexpr std::string_view default_path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> p;
  for (auto& s : strings) p.push_back(s.data());
  p.push_back(nullptr);
  return p;
}

}  // namespace

std::vector<std::string> own_environment() {
  std::vector<std::string> out;
  for (char** variable = environ; *variable != nullptr; ++variable) out.emplace_back(*variable);
  return out;
}

std::optional<std::string> find_program(const std::string& name) {
  auto runs = [](const std::string& path) { return ::access(path.c_str(), X_OK) == 0; };
  if (name.find('/') != std::string::npos) return runs(name) ? std::optional(name) : std::nullopt;
  const char* path = std::getenv("PATH");
  std::string_view rest = path != nullptr ? path : default_path;
  while (true) {
    auto end = rest.find(':');
    auto directory = rest.substr(0, end);
    auto candidate = std::string(directory.empty() ? "." : directory) + "/" + name;
    if (runs(candidate)) return candidate;
    if (end == std::string_view::npos) return std::nullopt;
    rest.remove_prefix(end + 1);
  }
}

result<program_outcome> run_program(program_call call, std::stop_token stop) {
  auto argv = pointers(call.argv);
  auto environment = pointers(call.environment);
  int out_pipe[2];
  int err_pipe[2];
  if (pipe2(out_pipe, O_CLOEXEC) != 0) return errno_error(errno, "pipe");
  unique_fd out_read{out_pipe[0]};
  unique_fd out_write{out_pipe[1]};
  if (pipe2(err_pipe, O_CLOEXEC) != 0) return errno_error(errno, "pipe");
  unique_fd err_read{err_pipe[0]};
  unique_fd err_write{err_pipe[1]};
  unique_fd cancelled{eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  unique_fd input{open(call.input.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!input) return errno_error(errno, "open " + call.input);

  auto pid = fork();
  if (pid < 0) return errno_error(errno, "starting " + call.argv[0]);
  if (pid == 0) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(input.get(), 0);
    dup2(out_write.get(), 1);
    dup2(err_write.get(), 2);
    umask(0022);
    restore_open_files();
    if (chdir(call.directory.c_str()) != 0) _exit(not_started);
    execvpe(argv[0], argv.data(), environment.data());
    _exit(not_started);
  }
  out_write.reset();
  err_write.reset();

  program_outcome done;
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
          continue;
        }
        std::string_view bytes(buffer, static_cast<std::size_t>(n));
        if (streams[i].into->size() + bytes.size() > max_output_bytes) continue;
        streams[i].into->append(bytes);
        if (call.on_output) call.on_output(i + 1, bytes);
      }
    }
  }
  int status = 0;
  while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  kill(-pid, SIGKILL);  // helpers that outlived it
  done.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  if (done.exit_code == not_started && done.err.empty())
    return make_error(errc::failed_precondition, call.argv[0] + " is not installed");
  return done;
}

}  // namespace kiln
