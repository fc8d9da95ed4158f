#include "client/interrupt.hpp"

#include <csignal>

#include <pthread.h>
#include <unistd.h>

namespace kiln::client {
namespace {

constexpr int wake_signal = SIGUSR2;

sigset_t handled_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, wake_signal);
  return set;
}

}  // namespace

interrupt_handler::interrupt_handler() {
  auto set = handled_signals();
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  // A peer that went away shows as EPIPE, not as a death.
  std::signal(SIGPIPE, SIG_IGN);
  thread_ = thread::must_start("signals", [this] { run(); });
}

interrupt_handler::~interrupt_handler() {
  ending_ = true;
  ::pthread_kill(thread_.native_handle(), wake_signal);
  thread_.join();
}

void interrupt_handler::on_kill(std::function<void()> action) {
  std::lock_guard lock(mutex_);
  on_kill_ = std::move(action);
}

void interrupt_handler::run() {
  auto set = handled_signals();
  for (int received = 0;;) {
    int number = 0;
    if (::sigwait(&set, &number) != 0) continue;
    if (number == wake_signal) {
      if (ending_) return;
      continue;
    }
    if (++received == 1) {
      stop_.request_stop();
      continue;
    }
    {
      std::lock_guard lock(mutex_);
      if (on_kill_) on_kill_();
    }
    ::_exit(128 + number);
  }
}

}  // namespace kiln::client
