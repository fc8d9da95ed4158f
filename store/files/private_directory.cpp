#include "store/files/private_directory.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <deque>

#include "base/digest.hpp"
#include "base/files.hpp"
#include "configs/store.hpp"
#include "store/files/mount.hpp"
#include "store/files/regular_file.hpp"

namespace kiln::store {

namespace fs = std::filesystem;

namespace {

constexpr mode_t parent_mode = 0755;
constexpr mode_t private_mode = 0700;
constexpr std::string_view unfinished = ".new-";  // names of what is being written begin so

/// "/x (owner 65534:65534, mode 0777)"
std::string described(const fs::path& path, const struct stat& info) {
  char text[80];
  std::snprintf(text, sizeof text, " (owner %u:%u, mode %04o)", info.st_uid, info.st_gid,
                info.st_mode & 07777u);
  return path.string() + text;
}

error refused(const fs::path& path, const struct stat& info, std::string_view why) {
  return make_error(errc::permission_denied, described(path, info) + " " + std::string(why));
}

/// In a user namespace what the host's root owns belongs to nobody we know.
std::optional<uid_t> unmapped_user() {
  static const std::optional<uid_t> user = []() -> std::optional<uid_t> {
    if (auto nested = in_user_namespace(); !nested.ok() || !*nested) return std::nullopt;
    auto text = read_file("/proc/sys/kernel/overflowuid", 64);
    if (!text.ok()) return std::nullopt;
    return static_cast<uid_t>(std::strtoul(text->c_str(), nullptr, 10));
  }();
  return user;
}

bool trusted_owner(const struct stat& info, const trusted_others& others) {
  return info.st_uid == 0 || info.st_uid == ::geteuid() || info.st_uid == others.user ||
         info.st_uid == unmapped_user();
}

/// Whether somebody we do not trust may rename or remove what another user has in this directory.
bool open_to_others(const struct stat& info, const trusted_others& others) {
  if (info.st_mode & S_ISVTX) return false;
  bool known_group = info.st_gid == 0 || info.st_gid == ::getegid() || info.st_gid == others.group;
  return (info.st_mode & S_IWOTH) != 0 || ((info.st_mode & S_IWGRP) != 0 && !known_group);
}

status check_directory(const fs::path& path, const struct stat& info, const trusted_others& others) {
  if (!trusted_owner(info, others))
    return refused(path, info, "belongs to a user who could swap what is in it");
  if (open_to_others(info, others)) return refused(path, info, "lets others swap what is in it");
  return {};
}

void push_front(std::deque<std::string>& parts, const fs::path& path) {
  std::deque<std::string> more;
  for (const auto& part : path.relative_path())
    if (!part.empty() && part != ".") more.push_back(part.string());
  parts.insert(parts.begin(), more.begin(), more.end());
}

struct place {
  unique_fd fd;  // O_PATH
  fs::path path;
};

/// Goes to a directory, checking each one that it goes through, but not the last. Makes what is missing: the
/// last with `last_mode`, those above it with parent_mode.
result<place> walk_to(const fs::path& wanted, const trusted_others& others, mode_t last_mode) {
  std::error_code failed;
  auto absolute = fs::absolute(wanted, failed);
  if (failed) return errno_error(failed.value(), wanted.string());
  std::deque<std::string> parts;
  push_front(parts, absolute);
  place at;
  at.path = "/";
  KILN_TRY(at.fd, open_file("/", O_PATH | O_DIRECTORY));
  int links = 0;
  while (!parts.empty()) {
    auto part = std::move(parts.front());
    parts.pop_front();
    struct stat here {};
    if (::fstat(at.fd.get(), &here) != 0) return errno_error(errno, "stat " + at.path.string());
    KILN_CHECK(check_directory(at.path, here, others));
    auto path = part == ".." ? at.path.parent_path() : at.path / part;
    auto next = open_at(at.fd.get(), part, O_PATH | O_NOFOLLOW);
    if (!next.ok() && next.error().code == errc::not_found) {
      auto mode = parts.empty() ? last_mode : parent_mode;
      if (::mkdirat(at.fd.get(), part.c_str(), private_mode) != 0) {
        if (errno != EEXIST) return errno_error(errno, "mkdir " + path.string());
      } else if (::fchmodat(at.fd.get(), part.c_str(), mode, AT_SYMLINK_NOFOLLOW) != 0) {
        return errno_error(errno, "chmod " + path.string());
      }
      next = open_at(at.fd.get(), part, O_PATH | O_NOFOLLOW);
    }
    if (!next.ok()) return errno_error(errno, "open " + path.string());
    struct stat info {};
    if (::fstat(next->get(), &info) != 0) return errno_error(errno, "stat " + path.string());
    if (S_ISLNK(info.st_mode)) {
      if (!trusted_owner(info, others))
        return refused(path, info, "is a symlink of a user who could change it");
      if (++links > limits::symlinks_followed) return errno_error(ELOOP, path.string());
      std::string target(limits::archive_name, '\0');
      auto size = ::readlinkat(next->get(), "", target.data(), target.size());
      if (size < 0) return errno_error(errno, "read link " + path.string());
      target.resize(static_cast<std::size_t>(size));
      push_front(parts, target);
      if (target.starts_with('/')) {
        at.path = "/";
        KILN_TRY(at.fd, open_file("/", O_PATH | O_DIRECTORY));
      }
      continue;
    }
    if (!S_ISDIR(info.st_mode)) return errno_error(ENOTDIR, path.string());
    at = {*std::move(next), std::move(path)};
  }
  return at;
}

}  // namespace

result<fs::path> guarded_directory(const fs::path& path, const trusted_others& others) {
  KILN_TRY(auto at, walk_to(path, others, parent_mode));
  struct stat info {};
  if (::fstat(at.fd.get(), &info) != 0) return errno_error(errno, "stat " + at.path.string());
  KILN_CHECK(check_directory(at.path, info, others));
  return std::move(at.path);
}

/// Makes the directory ours alone, if what is in it can only have come from us.
result<private_directory> private_directory::claim(const unique_fd& there, fs::path path) {
  struct stat info {};
  if (::fstat(there.get(), &info) != 0) return errno_error(errno, "stat " + path.string());
  if (info.st_uid != ::geteuid())
    return refused(path, info, "does not belong to the user who runs this, " + std::to_string(::geteuid()));
  auto fd = open_at(there.get(), ".", O_RDONLY | O_DIRECTORY);
  if (!fd.ok()) return std::move(fd).error().with_context(path.string());
  if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
    KILN_TRY(auto names, list_names(fd->get()));
    if (!names.empty())
      return refused(path, info,
                     "could be written to by others, who may have changed what is in it: remove it, or "
                     "make it 0700 if you trust it");
  }
  if ((info.st_mode & 07777) != private_mode && ::fchmod(fd->get(), private_mode) != 0)
    return errno_error(errno, "chmod " + path.string());
  return private_directory(*std::move(fd), std::move(path));
}

result<private_directory> private_directory::open(const fs::path& path) {
  KILN_TRY(auto at, walk_to(path, {}, private_mode));
  return claim(at.fd, std::move(at.path));
}

result<private_directory> private_directory::directory(const std::string& name) const {
  auto path = path_ / name;
  if (::mkdirat(fd_.get(), name.c_str(), private_mode) != 0 && errno != EEXIST)
    return errno_error(errno, "mkdir " + path.string());
  auto there = open_at(fd_.get(), name, O_PATH | O_DIRECTORY | O_NOFOLLOW);
  if (!there.ok()) return std::move(there).error().with_context(path_.string());
  return claim(*there, std::move(path));
}

bool private_directory::has(const std::string& name) const {
  struct stat info {};
  return ::fstatat(fd_.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0;
}

result<std::string> private_directory::read(const std::string& name, std::int64_t limit) const {
  KILN_TRY(auto fd, open_regular_at(fd_.get(), name));
  std::string text;
  char buffer[64 * 1024];
  while (true) {
    auto count = ::read(fd.get(), buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno_error(errno, "read " + (path_ / name).string());
    if (count == 0) return text;
    text.append(buffer, static_cast<std::size_t>(count));
    if (static_cast<std::int64_t>(text.size()) > limit)
      return make_error(errc::resource_exhausted,
                        (path_ / name).string() + " is larger than " + std::to_string(limit) + " bytes");
  }
}

status private_directory::write(const std::string& name, std::string_view bytes, mode_t mode) const {
  auto fresh = std::string(unfinished) + new_id();
  auto make = [&]() -> status {
    KILN_TRY(auto fd, open_at(fd_.get(), fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600));
    KILN_CHECK(write_all(fd.get(), bytes));
    if (::fchmod(fd.get(), mode) != 0) return errno_error(errno, "chmod");
    if (::renameat(fd_.get(), fresh.c_str(), fd_.get(), name.c_str()) != 0)
      return errno_error(errno, "rename");
    return {};
  };
  auto made = make();
  if (made.ok()) return made;
  ::unlinkat(fd_.get(), fresh.c_str(), 0);
  return std::move(made).error().with_context("write " + (path_ / name).string());
}

status private_directory::sweep_unfinished() const {
  KILN_TRY(auto all, names());
  for (const auto& name : all)
    if (name.starts_with(unfinished)) KILN_CHECK(remove(name));
  return {};
}

status private_directory::remove(const std::string& name) const {
  auto removed = remove_tree(fd_path(fd_.get()) + "/" + name);
  if (!removed.ok()) return std::move(removed).error().with_context(path_.string());
  return removed;
}

result<std::vector<std::string>> private_directory::names() const { return list_names(fd_.get()); }

}  // namespace kiln::store
