#include "workers/platforms/probe.hpp"

#include <cerrno>
#include <cstdlib>
#include <thread>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/files.hpp"
#include "base/unique_fd.hpp"
#include "configs/platforms.hpp"

namespace kiln::workers {

namespace {

namespace fs = std::filesystem;

struct outcome {
  int failure = 0;  // errno of the start
  int status = 0;   // of the end
};

/// vfork and exec, as for steps: between the two only system calls.
result<outcome> run_in_root(const char* root, int null) {
  outcome out;
  char name[] = "/program";
  char* argv[] = {name, nullptr};
  char* environment[] = {nullptr};
  sigset_t all, none, before;
  sigfillset(&all);
  sigemptyset(&none);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  volatile int failed = 0;
  pid_t pid = ::vfork();  // NOLINT: deliberate
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    for (int fd : {0, 1, 2}) ::dup2(null, fd);
    if (::chroot(root) != 0 || ::chdir("/") != 0) {
      failed = EPERM;
      ::_exit(127);
    }
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::execve(argv[0], argv, environment);
    failed = errno;
    ::_exit(127);
  }
  int vfork_error = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return errno_error(vfork_error, "vfork");
  if (unique_fd end(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))); end) {
    pollfd p{end.get(), POLLIN, 0};
    int ready = 0;
    while ((ready = ::poll(&p, 1, static_cast<int>(configs::platform_probe_time.count()))) < 0 &&
           errno == EINTR) {
    }
    if (ready == 0) ::kill(pid, SIGKILL);
  }
  while (::waitpid(pid, &out.status, 0) < 0 && errno == EINTR) {
  }
  out.failure = failed;
  return out;
}

status write_program(const fs::path& file, const std::string& bytes) {
  unique_fd fd(::open(file.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0700));
  if (!fd) return errno_error(errno, "open " + file.string());
  if (::write(fd.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size()))
    return errno_error(errno, "write " + file.string());
  return {};
}

}  // namespace

result<int> probe_program(const fs::path& root, const std::string& program) {
  KILN_CHECK(write_program(root / "program", program));
  unique_fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  result<outcome> run = outcome{};
  for (int start = 0; start < configs::platform_probe_starts; ++start) {
    run = run_in_root(root.c_str(), null.get());
    if (!run.ok() || run->failure != ETXTBSY) break;
    std::this_thread::sleep_for(configs::platform_probe_pause);
  }
  if (!run.ok()) return std::move(run).error();
  switch (run->failure) {
    case 0: break;
    case ENOEXEC: return make_error(errc::unimplemented, "the kernel does not know its programs");
    case ENOENT:
      return make_error(errc::not_found,
                        "the interpreter that binfmt_misc names is not there inside containers (flag F)");
    default: return errno_error(run->failure, "starting a program");
  }
  if (WIFEXITED(run->status)) return WEXITSTATUS(run->status);
  return make_error(errc::unavailable,
                    "its program was killed by signal " + std::to_string(WTERMSIG(run->status)));
}

}  // namespace kiln::workers
