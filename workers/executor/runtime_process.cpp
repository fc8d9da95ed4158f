#include "workers/executor/runtime_process.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <optional>

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "base/digest.hpp"
#include "base/open_files.hpp"
#include "configs/executor.hpp"
#include "configs/usage.hpp"
#include "messages/told_code.hpp"

extern char** environ;  // NOLINT

namespace kiln::workers {

namespace {

using clock = std::chrono::steady_clock;

struct child {
  pid_t pid = -1;
  unique_fd pidfd;
};

struct streams {
  int in = -1, out = -1, err = -1;
};

// vfork and exec: the daemon may be large, and fork would copy its page tables. Between the two only
// system calls are made. The child dies with the thread that made it.
result<child> spawn(const std::vector<std::string>& argv, const streams& fds, bool hide_unified_cgroup) {
  std::vector<char*> args;
  args.reserve(argv.size() + 1);
  for (const auto& a : argv) args.push_back(const_cast<char*>(a.c_str()));  // NOLINT: execve's signature
  args.push_back(nullptr);
  sigset_t all, none;
  sigfillset(&all);
  sigemptyset(&none);
  sigset_t before;
  pthread_sigmask(SIG_SETMASK, &all, &before);
  volatile int failed = 0;
  pid_t parent = ::getpid();
  pid_t pid = ::vfork();  // NOLINT: deliberate
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (::getppid() != parent) ::_exit(127);  // it died before that was asked for
    ::setpgid(0, 0);
    ::umask(022);
    restore_open_files();  // steps inherit them
    ::dup2(fds.in, 0);
    ::dup2(fds.out, 1);
    ::dup2(fds.err, 2);
    if (hide_unified_cgroup) {
      // An empty tmpfs in its place: the runtime makes directories there, which go with the namespace.
      if (::unshare(CLONE_NEWNS) != 0 || ::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0 ||
          ::umount2("/sys/fs/cgroup/unified", MNT_DETACH) != 0 ||
          ::mount("tmpfs", "/sys/fs/cgroup/unified", "tmpfs", 0, "mode=755,size=1m") != 0) {
        failed = errno;
        ::_exit(127);
      }
    }
    ::signal(SIGPIPE, SIG_DFL);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::execve(args[0], args.data(), environ);
    failed = errno;
    ::_exit(127);
  }
  int vfork_error = errno;
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return errno_error(vfork_error, "starting " + argv[0]);
  if (failed != 0) {
    int status = 0;
    ::waitpid(pid, &status, 0);
    return told_as(errc::unknown,
                   make_error(errc::unavailable, errno_error(failed, "starting " + argv[0]).message));
  }
  child c;
  c.pid = pid;
  c.pidfd.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!c.pidfd) {
    error e = errno_error(errno, "pidfd_open");
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    return e;
  }
  return c;
}

/// For poll: milliseconds until then, at least one; for ever without.
int until_look(const std::optional<clock::time_point>& when) {
  if (!when) return -1;
  auto left = std::chrono::duration_cast<std::chrono::milliseconds>(*when - clock::now()).count();
  return static_cast<int>(std::max<std::int64_t>(left, 0)) + 1;
}

int reap(pid_t pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : 255;
}

struct pipe_ends {
  unique_fd read, write;
};

result<pipe_ends> make_pipe() {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC) != 0) return errno_error(errno, "pipe");
  return pipe_ends{unique_fd(fds[0]), unique_fd(fds[1])};
}

void unblock(int fd) { ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK); }

// Kills the process the runtime wrote down, if it is (still) the runtime's child.
void kill_container(const std::string& pid_file, pid_t runtime) {
  pid_t pid = 0;
  std::ifstream(pid_file) >> pid;
  if (pid <= 1) return;
  unique_fd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!fd) return;
  // The pidfd holds on to whatever has the number now; only then is asking who its parent is worth anything.
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  std::string line;
  while (std::getline(status, line)) {
    if (!line.starts_with("PPid:")) continue;
    if (std::atol(line.c_str() + 5) == runtime)
      ::syscall(SYS_pidfd_send_signal, fd.get(), SIGKILL, nullptr, 0);
    return;
  }
}

// The socket a runtime sends its terminal over.
struct console_socket {
  unique_fd directory, listener;
  std::string path;  // as the runtime finds it: socket addresses are short, bundle paths may not be
  std::string name;

  static result<console_socket> make(const std::string& directory) {
    console_socket out;
    out.directory.reset(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    if (!out.directory) return errno_error(errno, "open " + directory);
    out.name = "tty-" + new_id().substr(0, 8);
    out.path =
        "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(out.directory.get()) + "/" + out.name;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::snprintf(address.sun_path, sizeof address.sun_path, "%s", out.path.c_str());
    out.listener.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!out.listener ||
        ::bind(out.listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(out.listener.get(), 1) != 0)
      return errno_error(errno, "make console socket");
    return out;
  }

  // The terminal's master; none when what came is something else.
  unique_fd take() {
    unique_fd peer(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!peer) return {};
    timeval patience{5, 0};
    ::setsockopt(peer.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    char text[4096];
    iovec part{text, sizeof text};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    if (::recvmsg(peer.get(), &message, MSG_CMSG_CLOEXEC) < 0) return {};
    for (auto* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c))
      if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(c), sizeof fd);
        return unique_fd(fd);
      }
    return {};
  }

  ~console_socket() {
    if (directory && !name.empty()) ::unlinkat(directory.get(), name.c_str(), 0);
  }
  console_socket() = default;
  console_socket(console_socket&&) = default;
  console_socket& operator=(console_socket&&) = default;
};

// Reads what is there; false at the end of the stream.
bool drain(int fd, int stream, const process_io& io, bool until_empty) {
  std::array<char, 32768> buffer{};
  while (true) {
    ssize_t n = ::read(fd, buffer.data(), buffer.size());
    if (n > 0) {
      if (io.output) io.output(stream, {buffer.data(), static_cast<std::size_t>(n)});
      if (!until_empty) return true;
      continue;
    }
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return true;
    return false;  // end, or EIO: the terminal's other side is closed
  }
}

}  // namespace

result<int> runtime_process::run(const options& what, const process_io& io, std::stop_token stop) {
  unique_fd stop_event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop_event) return errno_error(errno, "eventfd");

  streams fds;
  unique_fd null, child_in, child_out, child_err, out, err, input, terminal;
  auto argv = what.argv;
  std::optional<console_socket> console;
  bool own_terminal = what.tty && !what.console_directory.empty();
  if (own_terminal) {
    KILN_TRY(console, console_socket::make(what.console_directory));
    argv.insert(argv.end() - 1, {"--console-socket", console->path});
  }
  if (what.tty && !own_terminal) {
    int master = -1, slave = -1;
    if (::openpty(&master, &slave, nullptr, nullptr, nullptr) != 0) return errno_error(errno, "openpty");
    out.reset(master);
    child_in.reset(slave);
    ::fcntl(master, F_SETFD, FD_CLOEXEC);
    ::fcntl(slave, F_SETFD, FD_CLOEXEC);
    fds = {slave, slave, slave};
    if (io.control != nullptr) {
      input.reset(::fcntl(master, F_DUPFD_CLOEXEC, 3));
      terminal.reset(::fcntl(master, F_DUPFD_CLOEXEC, 3));
    }
  } else {
    KILN_TRY(auto out_pipe, make_pipe());
    KILN_TRY(auto err_pipe, make_pipe());
    out = std::move(out_pipe.read);
    err = std::move(err_pipe.read);
    child_out = std::move(out_pipe.write);
    child_err = std::move(err_pipe.write);
    fds.out = child_out.get();
    fds.err = child_err.get();
    if (io.control != nullptr && !own_terminal) {
      KILN_TRY(auto in_pipe, make_pipe());
      child_in = std::move(in_pipe.read);
      input = std::move(in_pipe.write);
      fds.in = child_in.get();
    } else {
      null.reset(::open("/dev/null", O_RDONLY | O_CLOEXEC));
      fds.in = null.get();
    }
  }

  KILN_TRY(child process, spawn(argv, fds, what.hide_unified_cgroup));
  child_in.reset();
  child_out.reset();
  child_err.reset();
  unblock(out.get());
  if (err) unblock(err.get());

  auto attach = [&] {
    if (io.control == nullptr) return;
    std::lock_guard lock(io.control->mutex_);
    io.control->input_ = std::move(input);
    io.control->terminal_ = std::move(terminal);
    io.control->send_ = [pidfd = process.pidfd.get()](int number) {
      ::syscall(SYS_pidfd_send_signal, pidfd, number, nullptr, 0);
    };
    io.control->attached_ = true;
    io.control->changed_.notify_all();
  };
  // A runtime with a terminal of its own is up when it hands that over.
  if (!own_terminal) {
    attach();
    if (io.started) io.started();
  }

  std::stop_callback on_stop(stop, [fd = stop_event.get()] {
    std::uint64_t one = 1;
    [[maybe_unused]] ssize_t n = ::write(fd, &one, sizeof one);
  });
  bool stopping = false;
  clock::time_point kill_until;
  std::optional<clock::time_point> next_look;
  if (what.looks_on) next_look = clock::now() + configs::usage_interval;
  unique_fd master;
  std::array<pollfd, 6> polled{{{out.get(), POLLIN, 0},
                                {err ? err.get() : -1, POLLIN, 0},
                                {process.pidfd.get(), POLLIN, 0},
                                {stop_event.get(), POLLIN, 0},
                                {console ? console->listener.get() : -1, POLLIN, 0},
                                {-1, POLLIN, 0}}};
  while (true) {
    // While stopping, ask again every 20 ms: the runtime may not have made the process yet.
    if (::poll(polled.data(), polled.size(), stopping ? 20 : until_look(next_look)) < 0 && errno != EINTR)
      break;
    if (next_look && clock::now() >= *next_look) next_look = clock::now() + what.looks_on();
    if ((polled[3].revents & POLLIN) != 0 && !stopping) {
      stopping = true;
      polled[3].fd = -1;
      kill_until = clock::now() + configs::kill_grace;
    }
    if (stopping) {
      kill_container(what.pid_file, process.pid);
      if (clock::now() > kill_until)
        ::syscall(SYS_pidfd_send_signal, process.pidfd.get(), SIGKILL, nullptr, 0);
    }
    if (polled[0].revents != 0 && !drain(out.get(), 1, io, false)) polled[0].fd = -1;
    if (polled[1].revents != 0 && !drain(err.get(), 2, io, false)) polled[1].fd = -1;
    if (polled[4].revents != 0) {
      master = console->take();
      polled[4].fd = -1;
      if (master) {
        unblock(master.get());
        polled[5].fd = master.get();
        polled[5].revents = 0;
        input.reset(::fcntl(master.get(), F_DUPFD_CLOEXEC, 3));
        terminal.reset(::fcntl(master.get(), F_DUPFD_CLOEXEC, 3));
        attach();
        if (io.started) io.started();
      }
    }
    if (polled[5].revents != 0 && !drain(master.get(), 1, io, false)) polled[5].fd = -1;
    if ((polled[2].revents & POLLIN) != 0) break;
  }
  end(io.control);
  if (polled[5].fd >= 0) drain(master.get(), 1, io, true);
  if (polled[0].fd >= 0) drain(out.get(), 1, io, true);
  if (polled[1].fd >= 0) drain(err.get(), 2, io, true);
  return reap(process.pid);
}

void runtime_process::end(process_control* control) {
  if (control == nullptr) return;
  std::lock_guard lock(control->mutex_);
  control->ended_ = true;
  control->input_.reset();
  control->terminal_.reset();
  control->send_ = nullptr;
  control->changed_.notify_all();
}

result<int> run_command(const std::vector<std::string>& argv, bool hide_unified_cgroup) {
  unique_fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  KILN_TRY(child process, spawn(argv, {null.get(), null.get(), null.get()}, hide_unified_cgroup));
  return reap(process.pid);
}

bool process_control::wait_attached(std::unique_lock<std::mutex>& lock) {
  changed_.wait(lock, [this] { return attached_ || ended_; });
  return !ended_;
}

bool process_control::write_input(std::string_view bytes) {
  unique_fd fd;
  {
    std::unique_lock lock(mutex_);
    if (!wait_attached(lock) || !input_) return false;
    fd.reset(
        ::fcntl(input_.get(), F_DUPFD_CLOEXEC, 3));  // so that the end of the process does not wait for us
  }
  while (!bytes.empty()) {
    pollfd p{fd.get(), POLLOUT, 0};
    if (::poll(&p, 1, 100) == 0) {
      std::lock_guard lock(mutex_);
      if (ended_) return false;
      continue;
    }
    if ((p.revents & (POLLERR | POLLNVAL)) != 0) return false;
    ssize_t n = ::write(fd.get(), bytes.data(), std::min<std::size_t>(bytes.size(), 4096));
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n < 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

void process_control::close_input() {
  std::unique_lock lock(mutex_);
  if (!wait_attached(lock)) return;
  if (terminal_ && input_) {
    // A terminal has no end of its own: the reader sees what Ctrl-D does.
    [[maybe_unused]] ssize_t n = ::write(input_.get(), "\x04", 1);
  }
  input_.reset();
}

void process_control::resize(unsigned rows, unsigned columns) {
  std::unique_lock lock(mutex_);
  if (!wait_attached(lock) || !terminal_) return;
  winsize size{};
  size.ws_row = static_cast<unsigned short>(rows);
  size.ws_col = static_cast<unsigned short>(columns);
  ::ioctl(terminal_.get(), TIOCSWINSZ, &size);
  if (send_) send_(SIGWINCH);
}

void process_control::signal(int number) {
  std::unique_lock lock(mutex_);
  if (wait_attached(lock) && send_) send_(number);
}

}  // namespace kiln::workers
