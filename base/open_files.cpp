#include "base/open_files.hpp"

#include <sys/resource.h>

#include <cerrno>

namespace kiln {

namespace {

rlimit given{};
bool raised = false;

}  // namespace

status raise_open_files() {
  if (raised) return {};
  if (::getrlimit(RLIMIT_NOFILE, &given) != 0) return errno_error(errno, "limit of open files");
  auto wanted = given;
  wanted.rlim_cur = given.rlim_max;
  if (::setrlimit(RLIMIT_NOFILE, &wanted) != 0) return errno_error(errno, "raise the limit of open files");
  raised = true;
  return {};
}

void restore_open_files() noexcept {
  if (raised) ::setrlimit(RLIMIT_NOFILE, &given);
}

}  // namespace kiln
