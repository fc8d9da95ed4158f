#include "filesync/incoming_file.hpp"

#include <cerrno>

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "filesync/disk.hpp"
#include "store/files/regular_file.hpp"

namespace kiln::filesync {

status incoming_file::create(parent_cache& parents, bool merge) {
  KILN_TRY(int dir, parents.parent_of(stat_.path()));
  if (merge) {
    fd_.reset(::openat(dir, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600));
    bool unsupported = errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT || errno == EINVAL;
    if (!fd_ && !unsupported) return errno_error(errno, "failed to create " + stat_.path());
    if (fd_) return {};
  }
  bool in_place = !replaces_ && !merge;
  name_ = in_place ? base_name(stat_.path()) : temporary_name();
  fd_.reset(::openat(dir, name_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd_) return errno_error(errno, "failed to create " + stat_.path());
  return {};
}

status incoming_file::give_name(parent_cache& parents) {
  KILN_TRY(int dir, parents.parent_of(stat_.path()));
  name_ = temporary_name();
  auto nameless = "/proc/self/fd/" + std::to_string(fd_.get());
  if (::linkat(AT_FDCWD, nameless.c_str(), dir, name_.c_str(), AT_SYMLINK_FOLLOW) != 0)
    return errno_error(errno, "failed to create " + stat_.path());
  return {};
}

status incoming_file::open(parent_cache& parents, bool merge) {
  if (!started_) {
    started_ = true;
    return create(parents, merge);
  }
  KILN_TRY(int dir, parents.parent_of(stat_.path()));
  KILN_TRY(fd_, store::open_regular_at(dir, name_, O_WRONLY));
  return {};
}

status incoming_file::write(std::string_view bytes) {
  auto written = writer_.write(fd_.get(), bytes);
  if (!written) return std::move(written).error().with_context(stat_.path());
  return {};
}

status incoming_file::close(parent_cache& parents) {
  if (!fd_) return {};
  if (name_.empty()) KILN_CHECK(give_name(parents));
  fd_.reset();
  return {};
}

status incoming_file::finish(parent_cache& parents) {
  if (auto whole = writer_.finish(fd_.get()); !whole)
    return std::move(whole).error().with_context(stat_.path());
  KILN_CHECK(apply_metadata(fd_.get(), stat_));
  KILN_CHECK(close(parents));
  auto name = base_name(stat_.path());
  if (name_ == name) return {};
  KILN_TRY(int dir, parents.parent_of(stat_.path()));
  if (::renameat(dir, name_.c_str(), dir, name.c_str()) != 0)
    return errno_error(errno, "failed to rename " + stat_.path());
  return {};
}

void incoming_file::drop(parent_cache& parents) noexcept {
  if (!started_ || name_.empty() || name_ == base_name(stat_.path())) return;
  if (auto dir = parents.parent_of(stat_.path()); dir.ok()) ::unlinkat(*dir, name_.c_str(), 0);
}

}  // namespace kiln::filesync
