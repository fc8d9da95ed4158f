#include "workers/sources/single_file.hpp"

#include <cerrno>
#include <cstdlib>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace kiln::workers {
namespace {

constexpr const char* temporary_name = ".kiln-download";

/// strconv.ParseInt(text, 0, 64), bounded to int.
result<int> parse_number(const std::string& key, const std::string& text) {
  std::string digits = text;
  if (digits.starts_with("0o") || digits.starts_with("0O")) digits = "0" + digits.substr(2);
  errno = 0;
  char* end = nullptr;
  long long v = std::strtoll(digits.c_str(), &end, 0);
  if (digits.empty() || *end != '\0' || errno != 0 || v < INT32_MIN || v > INT32_MAX)
    return make_error(errc::invalid_argument, "invalid value \"" + text + "\" for " + key);
  return static_cast<int>(v);
}

}  // namespace

result<file_attributes> parse_file_attributes(const pb::SourceOp& source) {
  file_attributes out;
  for (const auto& [key, value] : source.attrs()) {
    if (key == "http.filename") {
      out.filename = value;
    } else if (key == "http.perm") {
      KILN_TRY(out.perm, parse_number(key, value));
    } else if (key == "http.uid") {
      KILN_TRY(out.uid, parse_number(key, value));
    } else if (key == "http.gid") {
      KILN_TRY(out.gid, parse_number(key, value));
    }
  }
  return out;
}

result<single_file> single_file::begin(store::ref_store& store, const store::record_options& options,
                                       const job_context& job) {
  single_file out(store);
  KILN_TRY(out.snapshot_, store.create({}, options, job));
  KILN_TRY(auto specs, store.files().mounts(out.snapshot_));
  KILN_TRY(out.mount_, store::mounted::make(store, specs));
  out.directory_.reset(::open(out.mount_.path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!out.directory_) return errno_error(errno, "open " + out.mount_.path().string());
  out.file_.reset(::openat(out.directory_.get(), temporary_name,
                           O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!out.file_) return errno_error(errno, "create a file for the download");
  return out;
}

status single_file::restart() {
  if (::ftruncate(file_.get(), 0) != 0 || ::lseek(file_.get(), 0, SEEK_SET) != 0)
    return errno_error(errno, "truncate the download");
  hasher_ = sha256_hasher();
  size_ = 0;
  return {};
}

status single_file::write(std::string_view bytes) {
  hasher_.update(bytes);
  size_ += static_cast<std::int64_t>(bytes.size());
  while (!bytes.empty()) {
    ssize_t n = ::write(file_.get(), bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error(errno, "write the download");
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return {};
}

kiln::digest single_file::sum() { return hasher_.finish(); }

result<store::ref> single_file::commit(const file_look& look) {
  if ((look.uid != 0 || look.gid != 0) &&
      ::fchown(file_.get(), static_cast<uid_t>(look.uid), static_cast<gid_t>(look.gid)) != 0)
    return errno_error(errno, "chown " + look.name);
  if (::fchmod(file_.get(), static_cast<mode_t>(look.perm & 07777)) != 0)
    return errno_error(errno, "chmod " + look.name);
  if (::renameat(directory_.get(), temporary_name, directory_.get(), look.name.c_str()) != 0)
    return errno_error(errno, "rename to " + look.name);
  timespec times[2] = {{look.mtime, 0}, {look.mtime, 0}};
  if (::futimens(file_.get(), times) != 0) return errno_error(errno, "set the time of " + look.name);
  file_.reset();
  directory_.reset();
  KILN_CHECK(mount_.unmount());
  return store_->commit(std::move(snapshot_));
}

}  // namespace kiln::workers
