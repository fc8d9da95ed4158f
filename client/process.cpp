#include "client/process.hpp"

#include <csignal>
#include <cstdlib>

#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/program.hpp"

extern char** environ;

namespace kiln::client {

result<std::string> find_program(const std::string& name) {
  if (name.find('/') != std::string::npos) return name;
  if (auto found = kiln::find_program(name)) return *found;
  return make_error(errc::not_found, name + ": executable file not found in $PATH");
}

result<child_process> child_process::start(const child_options& options) {
  KILN_TRY(auto program, find_program(options.argv.at(0)));
  std::vector<char*> argv;
  for (const auto& a : options.argv) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  std::vector<char*> env;
  for (char** e = environ; *e; ++e) env.push_back(*e);
  for (const auto& e : options.environment) env.push_back(const_cast<char*>(e.c_str()));
  env.push_back(nullptr);

  // The child reports a failed exec through this pipe, which a successful exec closes.
  int report[2];
  if (::pipe2(report, O_CLOEXEC) != 0) return errno_error(errno, "pipe");
  unique_fd report_read(report[0]), report_write(report[1]);
  pid_t parent = ::getpid();
  pid_t pid = ::fork();
  if (pid < 0) return errno_error(errno, "fork");
  if (pid == 0) {
    // Only async-signal-safe calls from here: other threads may hold any lock.
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::signal(SIGPIPE, SIG_DFL);
    if (options.own_session) ::setsid();
    if (options.death_signal != 0) {
      ::prctl(PR_SET_PDEATHSIG, options.death_signal);
      if (::getppid() != parent) ::_exit(127);
    }
    // dup2 in place would keep close-on-exec set.
    auto place = [](int from, int to) {
      if (from == to) ::fcntl(to, F_SETFD, 0);
      else if (from >= 0) ::dup2(from, to);
    };
    place(options.input, 0);
    place(options.output, 1);
    place(options.errors, 2);
    ::execve(program.c_str(), argv.data(), env.data());
    int err = errno;
    [[maybe_unused]] auto n = ::write(report[1], &err, sizeof err);
    ::_exit(127);
  }
  report_write.reset();
  child_process child;
  child.pid_ = pid;
  child.pidfd_ = unique_fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  int err = 0;
  ssize_t n;
  do n = ::read(report_read.get(), &err, sizeof err);
  while (n < 0 && errno == EINTR);
  if (n == sizeof err) {
    child.wait(std::nullopt);
    return errno_error(err, "start " + program);
  }
  return child;
}

bool child_process::signal(int number) const { return !ended_ && pid_ > 0 && ::kill(pid_, number) == 0; }

std::optional<int> child_process::wait(std::optional<std::chrono::milliseconds> timeout) {
  if (ended_) return ended_;
  if (timeout && pidfd_) {
    pollfd p{pidfd_.get(), POLLIN, 0};
    int ready;
    do ready = ::poll(&p, 1, static_cast<int>(timeout->count()));
    while (ready < 0 && errno == EINTR);
    if (ready == 0) return std::nullopt;
  }
  int code = 0;
  pid_t got;
  do got = ::waitpid(pid_, &code, 0);
  while (got < 0 && errno == EINTR);
  ended_ = got == pid_ ? code : 0;
  return ended_;
}

result<captured_run> run_captured(const std::vector<std::string>& argv, std::string_view input,
                                  std::size_t limit, std::chrono::milliseconds timeout) {
  int in[2], out[2], err[2];
  if (::pipe2(in, O_CLOEXEC) != 0) return errno_error(errno, "pipe");
  unique_fd in_read(in[0]), in_write(in[1]);
  if (::pipe2(out, O_CLOEXEC) != 0) return errno_error(errno, "pipe");
  unique_fd out_read(out[0]), out_write(out[1]);
  if (::pipe2(err, O_CLOEXEC) != 0) return errno_error(errno, "pipe");
  unique_fd err_read(err[0]), err_write(err[1]);
  KILN_TRY(auto child, child_process::start({.argv = argv,
                                             .input = in_read.get(),
                                             .output = out_write.get(),
                                             .errors = err_write.get(),
                                             .environment = {}}));
  in_read.reset();
  out_write.reset();
  err_write.reset();
  ::fcntl(in_write.get(), F_SETFL, O_NONBLOCK);

  captured_run run;
  auto deadline = std::chrono::steady_clock::now() + timeout;
  bool too_much = false;
  while (out_read || err_read) {
    if (input.empty()) in_write.reset();
    pollfd p[3] = {{out_read.get(), POLLIN, 0}, {err_read.get(), POLLIN, 0}, {in_write.get(), POLLOUT, 0}};
    auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    int ready = left.count() <= 0 ? 0 : ::poll(p, 3, static_cast<int>(left.count()));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) {
      child.signal(SIGKILL);
      child.wait(std::nullopt);
      return make_error(errc::deadline_exceeded, argv[0] + ": no answer in time");
    }
    char buffer[16 * 1024];
    auto drain = [&](unique_fd& fd, short events, std::string& into) {
      if (events == 0) return;
      auto n = ::read(fd.get(), buffer, sizeof buffer);
      if (n < 0 && errno == EINTR) return;
      if (n <= 0) return fd.reset();
      into.append(buffer, static_cast<std::size_t>(n));
      too_much = too_much || into.size() > limit;
    };
    drain(out_read, p[0].revents, run.output);
    drain(err_read, p[1].revents, run.errors);
    if (p[2].revents != 0) {
      auto n = ::write(in_write.get(), input.data(), input.size());
      if (n > 0) input.remove_prefix(static_cast<std::size_t>(n));
      else if (n < 0 && errno != EINTR && errno != EAGAIN) in_write.reset(), input = {};
    }
    if (too_much) {
      child.signal(SIGKILL);
      child.wait(std::nullopt);
      return make_error(errc::resource_exhausted, argv[0] + ": too much output");
    }
  }
  in_write.reset();
  int code = child.wait(std::nullopt).value_or(0);
  run.exit_code = WIFEXITED(code) ? WEXITSTATUS(code) : 128 + WTERMSIG(code);
  return run;
}

}  // namespace kiln::client
