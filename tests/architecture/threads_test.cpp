// Who may start threads: one place, where a system without threads is an error and not the end of the
// process.
#include <catch2/catch.hpp>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <regex>
#include <set>
#include <string>

#include "base/thread.hpp"
#include "base/thread_pool.hpp"
#include "source_lines.hpp"

namespace {

std::set<std::string> lines_with(const std::regex& pattern, const std::set<std::string>& allowed) {
  return kiln::architecture::lines_with(pattern, kiln::architecture::product_folders, allowed);
}

/// What a child says that may start no thread: a user with none left. Root has no such bound, so it is not
/// root; and memory is not what is bounded, for a sanitizer would have none either.
template <class Try>
int in_narrow_child(Try attempt) {
  auto child = fork();
  if (child == 0) {
    rlimit none{0, 0};
    constexpr uid_t nobody = 65534;
    if (setrlimit(RLIMIT_NPROC, &none) != 0 || (geteuid() == 0 && setresuid(nobody, nobody, nobody) != 0))
      _exit(100);
    _exit(attempt());
  }
  int how = 0;
  waitpid(child, &how, 0);
  return WIFEXITED(how) ? WEXITSTATUS(how) : -WTERMSIG(how);
}

}  // namespace

TEST_CASE("threads are started in one place only") {
  static const std::regex bare{
      R"(std::(thread|jthread|async)\b(?!::hardware_concurrency)|\bpthread_create\b|\.detach\(\))"};
  for (const auto& line : lines_with(bare, {"base/thread.hpp"})) {
    INFO(line);
    CHECK(false);
  }
  // And what looks for them finds them.
  CHECK(std::regex_search(std::string("  std::thread([&] { run(); }).detach();"), bare));
  CHECK_FALSE(lines_with(bare, {}).empty());
}

TEST_CASE("no thread talks to actors as a scoped actor") {
  // It would keep the actor system from ending for as long as the thread lives (actors/ask_and_wait.hpp).
  static const std::regex scoped{R"(\bscoped_actor\s+\w+\s*[{(;=])"};
  for (const auto& line : lines_with(scoped, {})) {
    INFO(line);
    CHECK(false);
  }
  CHECK(std::regex_search(std::string("  caf::scoped_actor self{system};"), scoped));
}

TEST_CASE("a thread that cannot be started is an error, and its pool says no") {
  auto started = in_narrow_child([] {
    auto one = kiln::thread::start("none", [] {});
    return one.ok() ? 1 : one.error().code == kiln::errc::resource_exhausted ? 0 : 2;
  });
  CHECK(started == 0);
  auto pooled = in_narrow_child([] {
    kiln::thread_pool pool("none", 4, 4);
    return pool.submit([] {}) ? 1 : 0;
  });
  CHECK(pooled == 0);
  auto helped = in_narrow_child([] {
    std::atomic<int> runs{0};
    kiln::run_with_helpers("none", 3, [&] { ++runs; });
    return runs == 1 ? 0 : 1;
  });
  CHECK(helped == 0);
}

TEST_CASE("a pool has as many threads as it may, lets so much work wait, and refuses the rest") {
  std::mutex mutex;
  std::condition_variable changed;
  bool open = false;
  int done = 0;
  {
    kiln::thread_pool pool("few", 2, 3);
    auto job = [&] {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return open; });
      ++done;
    };
    int taken = 0;
    for (int i = 0; i < 100; ++i) taken += pool.submit(job) ? 1 : 0;
    CHECK(taken == 5);
    std::lock_guard lock(mutex);
    open = true;
    changed.notify_all();
  }
  CHECK(done == 5);
}
