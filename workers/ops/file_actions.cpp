#include "workers/ops/file_actions.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/files.hpp"
#include "base/pattern.hpp"
#include "base/slash_path.hpp"
#include "store/files/regular_file.hpp"
#include "workers/executor/rooted.hpp"

namespace kiln::workers {

namespace {

/// A path split into its directory, opened inside the root, and its last component.
struct entry {
  unique_fd directory;
  std::string name;
};

std::string parent_of(const std::string& path) {
  auto slash = path.rfind('/');
  return slash == 0 || slash == std::string::npos ? "/" : path.substr(0, slash);
}

std::string name_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

result<entry> open_entry(int root, const std::string& resolved, const std::string& what) {
  entry e;
  e.directory = unique_fd{open_in_root(root, parent_of(resolved), O_PATH | O_DIRECTORY)};
  if (!e.directory) return errno_error(errno, what);
  e.name = name_of(resolved);
  if (e.name.empty()) e.name = ".";
  return e;
}

status finish(const entry& e, const std::optional<file_owner>& owner, std::int64_t timestamp,
              const std::string& what) {
  if (owner && fchownat(e.directory.get(), e.name.c_str(), owner->uid, owner->gid, AT_SYMLINK_NOFOLLOW) != 0)
    return errno_error(errno, what);
  return set_times(e.directory.get(), e.name, timestamp);
}

status remove_one(int root, const std::string& path, bool allow_not_found) {
  auto clean = clean_absolute(path);
  auto what = "remove " + clean;
  if (clean == "/") return make_error(errc::invalid_argument, "rmPath: invalid empty path");
  KILN_TRY(auto directory, resolve_in_root(root, parent_of(clean)));
  auto name = name_of(clean);
  unique_fd parent{open_in_root(root, directory, O_RDONLY | O_DIRECTORY)};
  struct stat info;
  if (!parent || fstatat(parent.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) {
    if ((errno == ENOENT || errno == ENOTDIR) && allow_not_found) return {};
    return errno_error(errno, what);
  }
  return remove_tree(fd_path(parent.get()) + "/" + name);
}

/// How deep what matches a pattern can lie. A set may take a slash, too.
std::size_t levels_of(std::string_view pattern) {
  return static_cast<std::size_t>(
      std::count_if(pattern.begin(), pattern.end(), [](char c) { return c == '/' || c == '['; }));
}

status walk_matches(int directory, const std::string& prefix, const std::string& below,
                    const path_pattern& pattern, std::vector<std::string>& found, std::size_t levels) {
  KILN_TRY(auto names, list_names(directory));
  for (const auto& name : names) {
    auto relative = prefix.empty() ? name : prefix + "/" + name;
    if (pattern.matches(relative)) {
      found.push_back(below == "/" ? "/" + relative : below + "/" + relative);
      continue;
    }
    if (levels == 0) continue;
    unique_fd child{openat(directory, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)};
    if (child) KILN_CHECK(walk_matches(child.get(), relative, below, pattern, found, levels - 1));
  }
  return {};
}

}  // namespace

status set_times(int directory, const std::string& name, std::int64_t timestamp_ns) {
  if (timestamp_ns == -1) return {};
  constexpr std::int64_t second = 1'000'000'000;
  auto seconds = timestamp_ns / second;
  auto rest = timestamp_ns % second;
  if (rest < 0) {
    rest += second;
    --seconds;
  }
  timespec times[2] = {{seconds, rest}, {seconds, rest}};
  if (utimensat(directory, name.c_str(), times, AT_SYMLINK_NOFOLLOW) != 0)
    return errno_error(errno, "failed to utime " + name);
  return {};
}

status make_directory(int root, const pb::FileActionMkDir& action, const std::optional<file_owner>& owner) {
  auto what = "mkdir " + clean_absolute(action.path());
  auto mode = static_cast<mode_t>(action.mode()) & 0777;
  KILN_TRY(auto path, resolve_in_root(root, action.path()));
  if (action.makeparents()) {
    std::vector<std::string> made;
    auto who = owner.value_or(file_owner{});
    KILN_CHECK(make_directories_in_root(root, path, mode, who.uid, who.gid, &made));
    if (made.empty()) return {};
    // Only the last keeps it: in each of the others a directory was made since. So it is in layers of
    // BuildKit's.
    KILN_TRY(auto e, open_entry(root, made.back(), what));
    return set_times(e.directory.get(), e.name, action.timestamp());
  }
  KILN_TRY(auto e, open_entry(root, path, what));
  if (mkdirat(e.directory.get(), e.name.c_str(), mode) != 0) {
    if (errno == EEXIST) return {};
    return errno_error(errno, what);
  }
  if (fchmodat(e.directory.get(), e.name.c_str(), mode, AT_SYMLINK_NOFOLLOW) != 0)
    return errno_error(errno, what);
  return finish(e, owner, action.timestamp(), what);
}

status make_file(int root, const pb::FileActionMkFile& action, const std::optional<file_owner>& owner) {
  auto what = "open " + clean_absolute(action.path());
  auto mode = static_cast<mode_t>(action.mode()) & 0777;
  KILN_TRY(auto path, resolve_in_root(root, action.path()));
  KILN_TRY(auto e, open_entry(root, path, what));
  unique_fd file{
      openat(e.directory.get(), e.name.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode)};
  if (file) {
    if (fchmod(file.get(), mode) != 0) return errno_error(errno, what);
  } else {
    if (errno != EEXIST) return errno_error(errno, what);
    auto existing = store::open_regular_at(e.directory.get(), e.name, O_WRONLY | O_TRUNC);
    if (!existing.ok()) return std::move(existing).error().with_context(what);
    file = *std::move(existing);
  }
  KILN_CHECK(write_all(file.get(), action.data()));
  file.reset();
  return finish(e, owner, action.timestamp(), what);
}

status make_symlink(int root, const pb::FileActionSymlink& action, const std::optional<file_owner>& owner) {
  auto what = "symlink " + action.oldpath() + " " + clean_absolute(action.newpath());
  KILN_TRY(auto path, resolve_in_root(root, action.newpath()));
  KILN_TRY(auto e, open_entry(root, path, what));
  if (symlinkat(action.oldpath().c_str(), e.directory.get(), e.name.c_str()) != 0)
    return errno_error(errno, what);
  return finish(e, owner, action.timestamp(), what);
}

status remove_path(int root, const pb::FileActionRm& action) {
  if (!action.allowwildcard()) return remove_one(root, action.path(), action.allownotfound());
  auto matches = resolve_wildcards(root, action.path(), false);
  if (!matches) {
    bool missing = matches.error().code == errc::not_found;
    return missing && action.allownotfound() ? status{} : std::move(matches).error();
  }
  for (const auto& match : *matches) KILN_CHECK(remove_one(root, match, action.allownotfound()));
  return {};
}

result<std::vector<std::string>> resolve_wildcards(int root, const std::string& pattern, bool follow_last) {
  auto clean = clean_absolute(pattern);
  std::string fixed = "/";
  std::size_t start = 1;
  while (start < clean.size()) {
    auto slash = clean.find('/', start);
    auto part = clean.substr(start, slash == std::string::npos ? slash : slash - start);
    if (has_wildcard(part)) break;
    fixed += (fixed == "/" ? "" : "/") + part;
    start = slash == std::string::npos ? clean.size() : slash + 1;
  }
  if (start >= clean.size()) return std::vector<std::string>{clean};
  KILN_TRY(auto compiled, path_pattern::compile(clean.substr(start), path_pattern::dialect::match));
  KILN_TRY(auto base, resolve_in_root(root, follow_last ? fixed : parent_of(fixed)));
  if (!follow_last && fixed != "/") base += (base == "/" ? "" : "/") + name_of(fixed);
  std::vector<std::string> found;
  unique_fd directory{open_in_root(root, base, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)};
  if (directory) {
    KILN_CHECK(walk_matches(directory.get(), "", base, compiled, found, levels_of(clean.substr(start))));
  } else {
    // A file, or a link that is not followed, has nothing in it; what is not there was meant to be.
    unique_fd there{open_in_root(root, base, O_PATH | O_NOFOLLOW)};
    if (!there) return errno_error(errno, "lstat " + base);
  }
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace kiln::workers
