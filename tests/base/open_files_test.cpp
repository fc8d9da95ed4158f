#include "base/open_files.hpp"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

using namespace kiln;

TEST_CASE("The limit of open files is raised to what is allowed, and children get what was given") {
  auto pid = ::fork();  // the limit of these tests stays as it is
  REQUIRE(pid >= 0);
  if (pid == 0) {
    auto soft = [] {
      rlimit now{};
      ::getrlimit(RLIMIT_NOFILE, &now);
      return now.rlim_cur;
    };
    rlimit given{64, 128};
    if (::setrlimit(RLIMIT_NOFILE, &given) != 0) ::_exit(1);
    restore_open_files();  // nothing was raised
    if (soft() != 64) ::_exit(2);
    if (!raise_open_files().ok() || !raise_open_files().ok() || soft() != 128) ::_exit(3);
    restore_open_files();
    ::_exit(soft() == 64 ? 0 : 4);
  }
  int status = 0;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  CHECK(WEXITSTATUS(status) == 0);
}
