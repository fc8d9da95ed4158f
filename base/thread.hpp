// Threads, and nothing else makes them (tests/architecture looks): each has a name, and a system that has
// none left is an error to whoever wanted one, not the end of the process. Nobody starts one for each thing
// that happens outside: who has many of those to wait for has a pool of a bounded size, or one loop.
#pragma once

#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "base/result.hpp"

namespace kiln {

/// A running thread; joined when it goes.
class thread {
 public:
  thread() = default;
  thread(thread&&) noexcept = default;
  thread& operator=(thread&& other) noexcept {
    join();
    thread_ = std::move(other.thread_);
    return *this;
  }
  ~thread() { join(); }

  /// resource_exhausted when there can be no further thread. `name`: at most 15 characters of it are shown
  /// (ps -L).
  template <class Work>
  static result<thread> start(const std::string& name, Work work) {
    thread out;
    try {
      out.thread_ = std::thread([work = std::move(work)]() mutable { work(); });
    } catch (const std::system_error& e) {
      return make_error(errc::resource_exhausted, "no thread can be started for " + name + ": " + e.what());
    }
    ::pthread_setname_np(out.thread_.native_handle(), name.substr(0, 15).c_str());
    return out;
  }
  /// For those who cannot do without, at the start of a process: throws instead.
  template <class Work>
  static thread must_start(const std::string& name, Work work) {
    auto started = start(name, std::move(work));
    if (!started.ok()) throw std::runtime_error(started.error().message);
    return *std::move(started);
  }

  bool joinable() const { return thread_.joinable(); }
  bool is_current() const { return thread_.get_id() == std::this_thread::get_id(); }
  void join() {
    if (thread_.joinable()) thread_.join();
  }
  /// Lets it end by itself: for those who may be running on it, and who share what it uses.
  void let_go() { thread_.detach(); }
  std::thread::native_handle_type native_handle() { return thread_.native_handle(); }

 private:
  std::thread thread_;
};

/// Runs `work` here and in up to `helpers` threads more, as far as there are any, and returns when all are
/// done.
template <class Work>
void run_with_helpers(const std::string& name, std::size_t helpers, const Work& work) {
  std::vector<thread> started;
  for (std::size_t i = 0; i < helpers; ++i) {
    auto one = thread::start(name, [&work] { work(); });
    if (!one.ok()) break;
    started.push_back(*std::move(one));
  }
  work();
}

}  // namespace kiln
