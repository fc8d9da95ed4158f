// A process that is told to stop ends in time, whatever hangs.
#include <catch2/catch.hpp>

#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/spdlog.h>

#include "../support/temp_dir.hpp"
#include "node/stop_deadline.hpp"

using namespace kiln;
using namespace std::chrono_literals;

namespace {

/// How a child that runs `body` ends, and what it logged.
template <class Body>
std::pair<int, std::string> child(Body body) {
  test::temp_dir dir;
  auto file = (dir.path() / "log").string();
  auto pid = fork();
  if (pid == 0) {
    spdlog::set_default_logger(
        std::make_shared<spdlog::logger>("child", std::make_shared<spdlog::sinks::basic_file_sink_mt>(file)));
    body();
    _exit(0);
  }
  int how = 0;
  waitpid(pid, &how, 0);
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return {WIFEXITED(how) ? WEXITSTATUS(how) : -WTERMSIG(how), text.str()};
}

}  // namespace

TEST_CASE("a stop that hangs ends with its deadline, and says what still runs") {
  auto [code, log] = child([] {
    auto stuck = thread::must_start("stuck-worker", [] { ::pause(); });
    node::stop_deadline deadline;
    deadline.begin(100ms, 70, [] { return std::string("3 actors"); });
    stuck.join();
  });
  CHECK(code == 70);
  CHECK(log.find("not stopped 100ms after being told to") != std::string::npos);
  CHECK(log.find("1 × stuck-worker (S") != std::string::npos);
  CHECK(log.find("3 actors") != std::string::npos);
}

TEST_CASE("a stop in time is nobody's business") {
  auto [code, log] = child([] {
    node::stop_deadline deadline;
    deadline.begin(1h, 70, nullptr);
  });
  CHECK(code == 0);
  CHECK(log.empty());
}
