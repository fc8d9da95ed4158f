#include "actors/handler_watch.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <thread>

#include <caf/policy/work_sharing.hpp>
#include <caf/scheduler/coordinator.hpp>

#include "base/unique_fd.hpp"

namespace kiln::actors {

namespace {

using line_sink = void (*)(const std::string&);

// CAF makes the scheduler by its type alone, so what it is told stands here.
std::atomic<std::int64_t> limit_ns{0};
std::atomic<line_sink> sink{nullptr};
std::atomic<bool (*)()> is_crowded{machine_is_crowded};

std::int64_t clock_ns(clockid_t clock) {
  timespec t{};
  ::clock_gettime(clock, &t);
  return t.tv_sec * 1'000'000'000LL + t.tv_nsec;
}

/// The second number of the thread's schedstat.
std::int64_t queued_ns() {
  thread_local unique_fd file{::open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC)};
  char text[128] = {};
  if (::pread(file.get(), text, sizeof text - 1, 0) <= 0) return 0;
  char* rest = nullptr;
  std::strtoll(text, &rest, 10);
  return std::strtoll(rest, nullptr, 10);
}

std::string type_at(const caf::type_erased_tuple& message, std::size_t at, const caf::actor_system& system) {
  auto type = message.type(at);
  if (type.first == caf::type_nr<caf::atom_value>::value)
    return caf::to_string(message.get_as<caf::atom_value>(at));
  return system.types().portable_name(type);
}

/// Atoms and types; no values, which may be long and are nobody's business.
std::string describe(const caf::mailbox_element& element, const caf::actor_system& system) {
  std::string out = element.mid.is_response() ? "the answer (" : "(";
  const auto& message = element.content();
  for (std::size_t i = 0; i < message.size(); ++i) out += (i > 0 ? ", " : "") + type_at(message, i, system);
  return out + ")";
}

std::string ms(std::int64_t ns) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f ms", static_cast<double>(ns) / 1e6);
  return text;
}

/// Work sharing that looks at the clocks before and after.
struct watching : caf::policy::work_sharing {
  template <class Worker>
  void before_resume(Worker* worker, caf::resumable* job) {
    auto* actor = dynamic_cast<caf::local_actor*>(job);
    message_.clear();
    started_ = actor && !actor->getf(caf::abstract_actor::is_initialized_flag);
    if (actor) {
      name_ = actor->name();
      if (const auto* next = actor->peek_at_next_mailbox_element())
        message_ = describe(*next, worker->system());
    }
    before_ = thread_times::now();
  }

  template <class Worker>
  void after_resume(Worker*, caf::resumable* job) {
    auto took = thread_times::now() - before_;
    auto busy = took.cpu + took.blocked();
    if (busy <= limit_ns) return;
    if (took.cpu <= limit_ns && took.disk == 0 && is_crowded.load()()) return;
    auto* actor = dynamic_cast<caf::local_actor*>(job);
    if (!actor) return;
    // Its name is that of its state, which starting makes.
    if (started_ && !actor->getf(caf::abstract_actor::is_terminated_flag)) name_ = actor->name();
    sink.load()("slow handler: " + name_ + " took " + ms(busy) + " (" + ms(took.cpu) + " computing, " +
                ms(took.blocked()) + " blocked; " + ms(took.queued) + " without a core not counted) " +
                (started_ ? "to start and handle " : "to handle ") +
                (message_.empty() ? "nothing" : message_) + "\n");
  }

 private:
  thread_times before_;
  std::string name_, message_;
  bool started_ = false;
};

void tell_standard_error(const std::string& line) { std::fputs(line.c_str(), stderr); }

}  // namespace

thread_times thread_times::now() {
  rusage used{};
  ::getrusage(RUSAGE_THREAD, &used);
  return {clock_ns(CLOCK_MONOTONIC), clock_ns(CLOCK_THREAD_CPUTIME_ID), queued_ns(),
          used.ru_majflt + used.ru_inblock};
}

bool machine_is_crowded() {
  std::ifstream file("/proc/loadavg");
  double load = 0;
  unsigned running = 0;
  file >> load >> load >> load >> running;
  return running > std::thread::hardware_concurrency();
}

std::optional<std::chrono::nanoseconds> handler_limit() {
  const char* text = std::getenv("KILN_HANDLER_LIMIT_MS");
  if (!text || !*text) return std::nullopt;
  return std::chrono::nanoseconds(static_cast<std::int64_t>(std::strtod(text, nullptr) * 1e6));
}

void watch_handlers(caf::actor_system_config& config) {
  if (auto limit = handler_limit()) watch_handlers(config, *limit, tell_standard_error);
}

void watch_handlers(caf::actor_system_config& config, std::chrono::nanoseconds limit,
                    void (*tell)(const std::string& line), bool (*crowded)()) {
  limit_ns = limit.count();
  is_crowded = crowded;
  sink = tell;
  // One message a turn, so that one message is what is timed.
  config.set("scheduler.max-throughput", std::size_t{1});
  config.load<caf::scheduler::coordinator<watching>>();
}

}  // namespace kiln::actors
