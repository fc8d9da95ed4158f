// kilnd: the daemon.
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <cstdio>

#include <spdlog/spdlog.h>

#include "node/daemon.hpp"
#include "node/idle_memory.hpp"
#include "node/log_setup.hpp"
#include "node/stop_deadline.hpp"
#include "base/open_files.hpp"
#include "base/plain_text.hpp"
#include "configs/daemon.hpp"
#include "configs/daemon_flags.hpp"
#include "workers/mount_namespace.hpp"

namespace {

constexpr int exit_usage = 1;
constexpr int exit_failed = 70;  // EX_SOFTWARE: what supervises us should start us again

/// Blocks the signals we wait for, in every thread to come.
int open_signals() {
  sigset_t set;
  sigemptyset(&set);
  for (int s : {SIGTERM, SIGINT}) sigaddset(&set, s);
  sigprocmask(SIG_BLOCK, &set, nullptr);
  signal(SIGPIPE, SIG_IGN);
  return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/// Whether a signal was waiting; it no longer is.
bool take_signal(int signals) {
  signalfd_siginfo info;
  return read(signals, &info, sizeof info) == sizeof info;
}

int fail(const kiln::error& e) {
  std::fprintf(stderr, "kilnd: %s\n", kiln::printable(e.message).c_str());
  return exit_usage;
}

}  // namespace

int main(int argc, char** argv) {
  auto line = kiln::configs::parse_command_line(argc, argv);
  if (!line.ok()) return fail(line.error());
  if (line->print_and_exit) {
    std::fputs(line->print_and_exit->c_str(), stdout);
    return 0;
  }
  kiln::node::limit_heaps();
  umask(S_IRWXG | S_IRWXO);  // what is for others is given to them by name; so are modes in builds
  kiln::node::set_up_logging(line->config);
  for (const auto& key : line->unknown_keys) spdlog::warn("{}: unknown key {}", line->config_file, key);
  for (const auto& text : line->outdated) spdlog::warn("deprecated: {}", text);
  for (const auto& text : line->without_effect) spdlog::warn("without effect: {}", text);
  int signals = open_signals();
  if (auto raised = kiln::raise_open_files(); !raised) spdlog::warn("{}", raised.error().message);
  auto entered = kiln::workers::enter_private_mount_namespace();
  if (!entered.ok()) spdlog::warn("{}; mounts will be made in the host's namespace", entered.error().message);

  auto daemon = kiln::node::daemon::start(line->config, entered.ok());
  if (!daemon.ok()) return fail(daemon.error());
  sd_notify(0, "READY=1");

  pollfd waits[2] = {{signals, POLLIN, 0}, {(*daemon)->failure_fd(), POLLIN, 0}};
  kiln::node::idle_memory memory;
  for (int ready = 0; ready <= 0;) {
    ready = poll(waits, 2, static_cast<int>(kiln::configs::idle_check_interval.count()));
    if (ready == 0) memory.check();
  }
  sd_notify(0, "STOPPING=1");
  bool failed = waits[1].revents != 0;
  if (!failed) take_signal(signals);
  kiln::node::stop_deadline deadline;
  (*daemon)->stop(
      [&] { return failed || take_signal(signals); },
      [&](auto time, auto what_runs) { deadline.begin(time, exit_failed, std::move(what_runs)); });
  daemon->reset();
  return failed ? exit_failed : 0;
}
