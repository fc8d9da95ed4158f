#include "client/output_file.hpp"

#include <sys/stat.h>

#include <filesystem>

#include "base/digest.hpp"

namespace kiln::client {

namespace {

namespace fs = std::filesystem;

constexpr mode_t new_file_mode = 0666;  // less the umask

std::string temporary_beside(const fs::path& path) {
  return (path.parent_path() / ("." + path.filename().string() + "." + new_id() + ".tmp")).string();
}

/// Whether a nameless file cannot be had there, but perhaps a named one.
bool no_nameless(int err) {
  return err == EOPNOTSUPP || err == EISDIR || err == ENOENT || err == EINVAL || err == ENOSYS;
}

/// Whether the directory takes no new files; the one that is there may be writable all the same.
bool takes_no_files(int err) { return err == EACCES || err == EPERM || err == EROFS; }

}  // namespace

result<output_file> output_file::open(const std::string& path) {
  std::error_code failed;
  struct stat there {};
  bool exists = ::stat(path.c_str(), &there) == 0;
  if (!exists && errno != ENOENT) return errno_error(errno, "open " + path);
  auto in_place = [&]() -> result<output_file> {
    unique_fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, new_file_mode));
    if (!fd) return errno_error(errno, "open " + path);
    bool regular = ::fstat(fd.get(), &there) == 0 && S_ISREG(there.st_mode);
    return output_file(regular ? way::in_place : way::stream, std::move(fd), path);
  };
  bool dangling = !exists && fs::is_symlink(fs::symlink_status(path, failed));
  if (dangling || (exists && !S_ISREG(there.st_mode))) return in_place();
  auto target = exists ? fs::canonical(path, failed) : fs::absolute(path, failed);
  if (failed) return errno_error(failed.value(), "open " + path);

  auto how = way::nameless;
  std::string temporary;
  unique_fd fd(::open(target.parent_path().c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, new_file_mode));
  if (!fd && no_nameless(errno)) {
    how = way::named;
    temporary = temporary_beside(target);
    fd.reset(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, new_file_mode));
  }
  if (!fd && exists && takes_no_files(errno)) return in_place();
  if (!fd) return errno_error(errno, "open " + path);
  output_file out(how, std::move(fd), target.string());
  out.temporary_ = std::move(temporary);
  if (exists) {
    // Its owner where we may give files away, which takes no more than root's rights.
    if (::fchown(out.fd_.get(), there.st_uid, there.st_gid) != 0 && errno != EPERM)
      return errno_error(errno, "chown " + path);
    if (::fchmod(out.fd_.get(), there.st_mode & 07777) != 0) return errno_error(errno, "chmod " + path);
  }
  return out;
}

status output_file::write_whole(const std::string& path, std::string_view bytes) {
  KILN_TRY(auto file, open(path));
  if (auto s = file.write(bytes); !s.ok()) return std::move(s).error().with_context("write " + path);
  if (file.way_ != way::stream && ::fsync(file.fd_.get()) != 0) return errno_error(errno, "fsync " + path);
  return file.commit();
}

output_file output_file::stream(unique_fd fd) { return {way::stream, std::move(fd), {}}; }

output_file::output_file(output_file&& other) noexcept
    : way_(other.way_),
      fd_(std::move(other.fd_)),
      path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})) {}

output_file::~output_file() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  // Half of it would look like all of it.
  if (way_ == way::in_place && fd_ && ::ftruncate(fd_.get(), 0) != 0) ::unlink(path_.c_str());
}

status output_file::commit() {
  if (!fd_) return {};
  if (way_ == way::nameless) {
    auto name = temporary_beside(path_);
    auto source = "/proc/self/fd/" + std::to_string(fd_.get());
    if (::linkat(AT_FDCWD, source.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) != 0)
      return errno_error(errno, "write " + path_);
    temporary_ = std::move(name);
  }
  if (!temporary_.empty()) {
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) return errno_error(errno, "write " + path_);
    temporary_.clear();
  }
  // Whoever reads the file once the build has ended must find all of it.
  if (::close(fd_.release()) != 0) return errno_error(errno, "close " + path_);
  return {};
}

}  // namespace kiln::client
