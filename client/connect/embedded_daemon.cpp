#include "client/connect/embedded_daemon.hpp"

#include <csignal>
#include <cstdlib>
#include <filesystem>

#include <poll.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <fmt/format.h>

#include "base/files.hpp"
#include "client/connect/dial.hpp"
#include "store/files/private_directory.hpp"

namespace kiln::client {
namespace {

constexpr auto start_timeout = std::chrono::seconds(20);
constexpr auto probe_interval =
    std::chrono::milliseconds(50);  // upper bound; the socket's birth wakes us earlier
constexpr auto stop_timeout = std::chrono::seconds(30);
constexpr std::size_t log_bytes_shown = 2000;

bool accepts(const std::string& socket) {
  auto fd = connect_unix(socket);
  if (!fd.ok()) return false;
  ::close(*fd);
  return true;
}

// Beside our own executable first: a checkout or an unpacked release works without installation.
result<std::string> find_kilnd() {
  std::error_code err;
  auto self = std::filesystem::read_symlink("/proc/self/exe", err);
  if (!err)
    for (const char* name : {"kilnd", "buildkitd"}) {
      auto beside = self.parent_path() / name;
      if (::access(beside.c_str(), X_OK) == 0) return beside.string();
    }
  auto found = find_program("kilnd");
  if (!found.ok())
    return make_error(errc::not_found,
                      "no daemon is running and no kilnd was found beside kilnctl or in $PATH to start one");
  return found;
}

result<unique_fd> lock_use(const store::private_directory& root) {
  auto path = root.path() / "clients.lock";
  KILN_TRY(auto fd, open_at(root.fd(), "clients.lock", O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  int locked;
  do locked = ::flock(fd.get(), LOCK_SH);
  while (locked != 0 && errno == EINTR);
  if (locked != 0) return errno_error(errno, "lock " + path.string());
  return fd;
}

std::string log_end(const std::string& path) {
  auto text = read_file(path, 64 << 20);
  if (!text.ok()) return {};
  return text->size() > log_bytes_shown ? text->substr(text->size() - log_bytes_shown) : *text;
}

}  // namespace

std::string embedded_root() {
  if (const char* root = std::getenv("KILN_ROOT"); root && *root) return root;
  if (::geteuid() == 0) return "/var/lib/kiln";
  if (const char* data = std::getenv("XDG_DATA_HOME"); data && *data) return std::string(data) + "/kiln";
  const char* home = std::getenv("HOME");
  return std::string(home && *home ? home : "/tmp") + "/.local/share/kiln";
}

std::string embedded_socket(const std::string& root) { return root + "/kilnd.sock"; }

result<std::unique_ptr<embedded_daemon>> embedded_daemon::start(const std::string& wanted_root,
                                                                std::stop_token stop) {
  std::unique_ptr<embedded_daemon> daemon(new embedded_daemon);
  // What listens there is trusted: nobody else may be able to.
  auto directory = store::private_directory::open(wanted_root);
  if (!directory.ok()) return std::move(directory).error().with_context("state directory");
  const auto root = directory->path().string();
  daemon->socket_ = embedded_socket(root);
  // Before looking: a daemon seen while the lock is held stays until we are done.
  KILN_TRY(daemon->use_lock_, lock_use(*directory));
  if (accepts(daemon->socket_)) return daemon;

  KILN_TRY(auto program, find_kilnd());
  auto log_path = root + "/kilnd.log";
  KILN_TRY(auto log, open_at(directory->fd(), "kilnd.log", O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0600));
  unique_fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  // Watch before the start, so that the socket's birth cannot be missed.
  unique_fd watch(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (watch) ::inotify_add_watch(watch.get(), root.c_str(), IN_CREATE | IN_MOVED_TO | IN_ATTRIB);

  KILN_TRY(auto child,
           child_process::start({.argv = {program, "--root", root, "--addr", "unix://" + daemon->socket_},
                                 .input = null.get(),
                                 .output = log.get(),
                                 .errors = log.get(),
                                 .own_session = true,
                                 .death_signal = SIGTERM,
                                 .environment = {}}));
  daemon->child_ = std::make_unique<child_process>(std::move(child));
  auto deadline = std::chrono::steady_clock::now() + start_timeout;
  for (;;) {
    if (accepts(daemon->socket_)) return daemon;
    if (daemon->child_->wait(std::chrono::milliseconds(0))) {
      daemon->child_.reset();
      // It lost a race for the root's lock: the winner is about to listen.
      while (std::chrono::steady_clock::now() < deadline &&
             log_end(log_path).find("lock") != std::string::npos) {
        if (accepts(daemon->socket_)) return daemon;
        pollfd p{watch.get(), POLLIN, 0};
        ::poll(&p, 1, static_cast<int>(probe_interval.count()));
      }
      return make_error(errc::unavailable,
                        fmt::format("{} did not start; {}:\n{}", program, log_path, log_end(log_path)));
    }
    if (stop.stop_requested()) {
      daemon->stop();
      return make_error(errc::cancelled, "context canceled");
    }
    if (std::chrono::steady_clock::now() > deadline) {
      daemon->kill();
      return make_error(errc::unavailable, fmt::format("{} does not listen at {}; {}:\n{}", program,
                                                       daemon->socket_, log_path, log_end(log_path)));
    }
    pollfd p{watch.get(), POLLIN, 0};
    ::poll(&p, 1, static_cast<int>(probe_interval.count()));
    char events[4096];
    [[maybe_unused]] auto n = ::read(watch.get(), events, sizeof events);
  }
}

embedded_daemon::~embedded_daemon() { stop(); }

std::string embedded_daemon::address() const { return "unix://" + socket_; }

void embedded_daemon::stop() {
  if (!child_) return use_lock_.reset();
  if (use_lock_ && ::flock(use_lock_.get(), LOCK_EX | LOCK_NB) != 0) {
    fmt::print(stderr, "waiting for other builds that use this daemon\n");
    while (::flock(use_lock_.get(), LOCK_EX) != 0 && errno == EINTR) {
    }
  }
  child_->signal(SIGTERM);
  if (!child_->wait(stop_timeout)) {
    child_->signal(SIGKILL);
    child_->wait(std::nullopt);
  }
  child_.reset();
  use_lock_.reset();
}

void embedded_daemon::kill() {
  if (child_) child_->signal(SIGKILL);
}

}  // namespace kiln::client
