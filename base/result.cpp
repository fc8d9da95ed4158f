#include "base/result.hpp"

#include <cctype>
#include <cerrno>
#include <cstring>

namespace kiln {

std::string_view to_string(errc code) {
  static constexpr std::string_view names[] = {
      "ok",        "cancelled",      "unknown",           "invalid argument",   "deadline exceeded",
      "not found", "already exists", "permission denied", "resource exhausted", "failed precondition",
      "aborted",   "out of range",   "unimplemented",     "internal",           "unavailable",
      "data loss", "unauthenticated"};
  auto index = static_cast<std::size_t>(code);
  return index < std::size(names) ? names[index] : "unknown";
}

namespace {

errc code_of_errno(int err) {
  switch (err) {
    case ENOENT:
    case ENOTDIR: return errc::not_found;
    case EEXIST: return errc::already_exists;
    case EACCES:
    case EPERM: return errc::permission_denied;
    case EINVAL:
    case ENAMETOOLONG:
    case ELOOP: return errc::invalid_argument;
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case ENOMEM: return errc::resource_exhausted;
    case ETIMEDOUT: return errc::deadline_exceeded;
    case ECANCELED: return errc::cancelled;
    case ECONNREFUSED:
    case ECONNRESET:
    case EPIPE: return errc::unavailable;
    case ENODEV:
    case ENOSYS:
    case ENOTSUP: return errc::unimplemented;
    // The machine itself is at fault. Source: BuildKit errdefs/internal_linux.go.
    case EIO:
    case EFAULT:
    case ENOTRECOVERABLE:
    case EHWPOISON: return errc::internal;
    default: return errc::unknown;
  }
}

}  // namespace

error errno_error(int err, std::string_view what) {
  char buffer[256];
  std::string reason = strerror_r(err, buffer, sizeof buffer);
  // As Go prints it, which is what BuildKit's users and tests know; abbreviations stay.
  if (reason.size() > 1 && std::islower(static_cast<unsigned char>(reason[1])))
    reason[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(reason[0])));
  return make_error(code_of_errno(err), std::string(what) + ": " + reason);
}

}  // namespace kiln
