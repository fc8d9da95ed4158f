#include "workers/ref_files.hpp"

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/pattern.hpp"
#include "base/slash_path.hpp"
#include "store/files/confinement.hpp"
#include "filesync/file_stat.hpp"
#include "store/files/regular_file.hpp"
#include "workers/executor/rooted.hpp"

namespace kiln::workers {

namespace {

/// What a path leads to, not opened yet (O_PATH).
result<unique_fd> find(const std::filesystem::path& root, const std::string& path, const char* verb) {
  KILN_TRY(auto base, store::open_confined(root));
  unique_fd there(open_in_root(base.get(), path, O_PATH));
  if (!there) return errno_error(errno, std::string(verb) + " " + path);
  return there;
}

std::string base_of(const std::string& path) {
  auto clean = clean_absolute(path);
  return clean == "/" ? "/" : clean.substr(clean.rfind('/') + 1);
}

}  // namespace

result<gw::ReadFileResponse> read_file(const std::filesystem::path& root, const gw::ReadFileRequest& request,
                                       std::int64_t limit) {
  const auto& path = request.filepath();
  KILN_TRY(auto there, find(root, path, "open"));
  KILN_TRY(auto fd, store::open_regular(there.get(), "read " + path));
  struct stat st {};
  if (::fstat(fd.get(), &st) != 0) return errno_error(errno, "stat " + path);
  std::int64_t offset = 0, length = st.st_size;
  if (request.has_range()) {
    offset = std::max<std::int64_t>(0, request.range().offset());
    length = std::max<std::int64_t>(0, st.st_size - offset);
    if (request.range().length() > 0) length = std::min(length, request.range().length());
  }
  if (length > limit)
    return make_error(errc::resource_exhausted, "read " + path + ": " + std::to_string(length) +
                                                    " bytes are more than the limit of " +
                                                    std::to_string(limit));
  gw::ReadFileResponse out;
  auto& data = *out.mutable_data();
  data.resize(static_cast<std::size_t>(length));
  std::size_t done = 0;
  while (done < data.size()) {
    auto n = ::pread(fd.get(), data.data() + done, data.size() - done, offset + static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno_error(errno, "read " + path);
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  data.resize(done);
  return out;
}

result<gw::ReadDirResponse> read_dir(const std::filesystem::path& root, const gw::ReadDirRequest& request) {
  const auto& path = request.dirpath();
  KILN_TRY(auto there, find(root, path, "open"));
  unique_fd fd(::openat(there.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return errno_error(errno, "open " + path);
  std::vector<std::string> patterns;
  if (!request.includepattern().empty()) patterns.push_back(request.includepattern());
  KILN_TRY(auto include, pattern_list::compile(patterns));
  unique_fd for_listing(::fcntl(fd.get(), F_DUPFD_CLOEXEC, 3));
  std::unique_ptr<DIR, int (*)(DIR*)> dir(::fdopendir(for_listing.get()), ::closedir);
  if (!dir) return errno_error(errno, "open " + path);
  for_listing.release();
  std::vector<std::string> names;
  errno = 0;
  while (auto* entry = ::readdir(dir.get())) {
    std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    if (include.empty() || include.matches(name)) names.push_back(std::move(name));
  }
  if (errno != 0) return errno_error(errno, "readdir " + path);
  std::sort(names.begin(), names.end());
  gw::ReadDirResponse out;
  for (const auto& name : names) {
    struct stat st {};
    if (::fstatat(fd.get(), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0)
      return errno_error(errno, "lstat " + name);
    KILN_CHECK(filesync::fill_stat(fd.get(), name.c_str(), st, name, *out.add_entries()));
  }
  return out;
}

result<gw::StatFileResponse> stat_file(const std::filesystem::path& root,
                                       const gw::StatFileRequest& request) {
  const auto& path = request.path();
  KILN_TRY(auto there, find(root, path, "lstat"));
  struct stat st {};
  if (::fstat(there.get(), &st) != 0) return errno_error(errno, "lstat " + path);
  gw::StatFileResponse out;
  KILN_CHECK(filesync::fill_stat(there.get(), st, base_of(path), *out.mutable_stat()));
  return out;
}

}  // namespace kiln::workers
