#include "store/archive/layer_tar.hpp"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <functional>
#include <map>
#include <set>

#include "base/files.hpp"
#include "configs/store.hpp"
#include "store/files/difference.hpp"
#include "store/files/file_data.hpp"
#include "store/files/regular_file.hpp"
#include "store/archive/tar_writer.hpp"
#include "store/files/xattr.hpp"

namespace kiln::store {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view whiteout_prefix = ".wh.";

bool is_whiteout(const struct stat& info) { return S_ISCHR(info.st_mode) && info.st_rdev == ::makedev(0, 0); }

/// Writes entries of one layer; knows the hard links among them.
class layer_writer {
 public:
  layer_writer(byte_sink& out, const job_context& job, tar_detail detail)
      : tar_(out, detail == tar_detail::exact ? long_names::split : long_names::record),
        job_(job),
        exact_(detail == tar_detail::exact),
        buffer_(limits::copy_buffer, '\0') {}

  /// The root directory itself, where that is wanted.
  status root(int directory);

  /// One file-system object, content and all (of a directory only itself).
  status entry(int directory, const std::string& name, const std::string& path, const struct stat& info);
  status whiteout(const std::string& path, const struct timespec& mtime);
  status finish() { return tar_.finish(); }

 private:
  status content(int directory, const std::string& name, const std::string& path);

  tar_writer tar_;
  const job_context& job_;
  const bool exact_;
  std::string buffer_;
  std::map<std::pair<dev_t, ino_t>, std::string> links_;
};

status layer_writer::entry(int directory, const std::string& name, const std::string& path,
                           const struct stat& info) {
  KILN_CHECK(job_.check());
  tar_entry e;
  e.name = path;
  e.mode = info.st_mode & 07777;
  e.uid = info.st_uid;
  e.gid = info.st_gid;
  e.mtime = info.st_mtim.tv_sec;
  if (exact_) e.mtime_ns = static_cast<std::uint32_t>(info.st_mtim.tv_nsec);
  switch (info.st_mode & S_IFMT) {
    case S_IFDIR:
      e.type = '5';
      e.name += '/';
      break;
    case S_IFREG: e.size = info.st_size; break;
    case S_IFLNK: {
      e.type = '2';
      e.link.resize(static_cast<std::size_t>(info.st_size) + 1);
      auto size = ::readlinkat(directory, name.c_str(), e.link.data(), e.link.size());
      if (size < 0) return errno_error(errno, "read link " + path);
      e.link.resize(static_cast<std::size_t>(size));
      break;
    }
    case S_IFCHR:
    case S_IFBLK:
      e.type = S_ISCHR(info.st_mode) ? '3' : '4';
      e.device_major = ::major(info.st_rdev);
      e.device_minor = ::minor(info.st_rdev);
      break;
    case S_IFIFO: e.type = '6'; break;
    default: return {};  // sockets do not go into layers
  }
  if (!S_ISDIR(info.st_mode) && info.st_nlink > 1) {
    auto [first, is_new] = links_.try_emplace({info.st_dev, info.st_ino}, path);
    if (!is_new) {
      e.type = '1';
      e.link = first->second;
      e.size = 0;
      return tar_.header(e);
    }
  }
  KILN_TRY(auto attributes, get_xattrs(directory, name));
  for (auto& [key, value] : attributes) {
    if (is_overlay_xattr(key)) continue;
    // Of the security and system spaces only capabilities are the file's own, and access lists.
    if (exact_ && key.rfind("system.posix_acl_", 0) == 0) {
      e.xattrs.emplace(key, std::move(value));
      continue;
    }
    if (key != "security.capability" && (key.rfind("security.", 0) == 0 || key.rfind("system.", 0) == 0))
      continue;
    e.xattrs.emplace(key, std::move(value));
  }
  KILN_CHECK(tar_.header(e));
  if (e.type != '0' || e.size == 0) return {};
  return content(directory, name, path);
}

status layer_writer::content(int directory, const std::string& name, const std::string& path) {
  KILN_TRY(auto file, open_regular_at(directory, name));
  auto source = read_file_data(std::move(file));
  while (true) {
    KILN_CHECK(job_.check());
    auto count = source->read(buffer_);
    if (!count.ok()) return std::move(count).error().with_context(path);
    if (*count == 0) break;
    if (auto written = tar_.content({buffer_.data(), *count}); !written)
      return std::move(written).error().with_context(path);
  }
  if (auto ended = tar_.end_entry(); !ended) return std::move(ended).error().with_context(path);
  return {};
}

status layer_writer::root(int directory) {
  if (!exact_) return {};
  struct stat info {};
  if (::fstat(directory, &info) != 0) return errno_error(errno, "stat of a root directory");
  return entry(directory, ".", ".", info);
}

status layer_writer::whiteout(const std::string& path, const struct timespec& mtime) {
  auto slash = path.rfind('/');
  auto cut = slash == std::string::npos ? 0 : slash + 1;
  tar_entry e;
  e.name = path.substr(0, cut) + std::string(whiteout_prefix) + path.substr(cut);
  if (exact_) {
    e.mtime = mtime.tv_sec;
    e.mtime_ns = static_cast<std::uint32_t>(mtime.tv_nsec);
  }
  return tar_.header(e);
}

struct upper_walker {
  layer_writer& writer;
  std::string opaque_attribute;

  status walk(int directory, const std::string& prefix, int depth) {
    if (depth > limits::tree_depth)
      return make_error(errc::out_of_range, "directories are nested too deeply");
    KILN_TRY(auto names, list_names(directory));
    for (const auto& name : names) {
      struct stat info {};
      if (::fstatat(directory, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0)
        return errno_error(errno, "stat " + prefix + name);
      auto path = prefix + name;
      if (is_whiteout(info)) {
        KILN_CHECK(writer.whiteout(path, info.st_mtim));
        continue;
      }
      KILN_CHECK(writer.entry(directory, name, path, info));
      if (!S_ISDIR(info.st_mode)) continue;
      auto opaque = get_xattr(directory, name, opaque_attribute);
      if (opaque.ok() && *opaque == "y") KILN_CHECK(writer.whiteout(path + "/.wh..opq", info.st_mtim));
      KILN_TRY(auto child, open_at(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
      KILN_CHECK(walk(child.get(), path + "/", depth + 1));
    }
    return {};
  }
};

using walk = std::function<status(const std::function<status(const changed_entry&)>&)>;

/// The changes in the tree `upper` that a walk tells of.
status write_changes(const fs::path& upper, const walk& changes, byte_sink& out, const job_context& job,
                     tar_detail detail) {
  KILN_TRY(auto root, open_file(upper, O_RDONLY | O_DIRECTORY));
  layer_writer writer(out, job, detail);
  KILN_CHECK(writer.root(root.get()));
  std::set<std::string> told;  // directories that have their entry
  auto parents = [&](const std::string& path) -> status {
    for (auto slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1)) {
      auto directory = path.substr(0, slash);
      if (!told.insert(directory).second) continue;
      KILN_TRY(auto parent, open_in_root(root.get(), directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
      struct stat info {};
      if (::fstat(parent.get(), &info) != 0) return errno_error(errno, "stat " + directory);
      KILN_CHECK(writer.entry(parent.get(), ".", directory, info));
    }
    return {};
  };
  KILN_CHECK(changes([&](const changed_entry& c) -> status {
    KILN_CHECK(parents(c.path));
    if (c.kind == change::removed) return writer.whiteout(c.path, {});
    KILN_CHECK(writer.entry(c.directory, c.name, c.path, c.info));
    if (S_ISDIR(c.info.st_mode)) told.insert(c.path);
    return {};
  }));
  return writer.finish();
}

}  // namespace

status write_upper_tar(const fs::path& upper, bool user_namespace, byte_sink& out, const job_context& job,
                       tar_detail detail) {
  KILN_TRY(auto root, open_file(upper, O_RDONLY | O_DIRECTORY));
  layer_writer writer(out, job, detail);
  KILN_CHECK(writer.root(root.get()));
  upper_walker walker{writer, overlay_xattr(user_namespace, "opaque")};
  KILN_CHECK(walker.walk(root.get(), "", 0));
  return writer.finish();
}

status write_difference_tar(const fs::path& lower, const fs::path& upper, byte_sink& out,
                            const job_context& job, tar_detail detail) {
  return write_changes(
      upper, [&](const auto& visit) { return for_each_change(lower, upper, job, visit); }, out, job, detail);
}

status write_layer_change_tar(const fs::path& lower, const fs::path& upper, bool user_namespace,
                              byte_sink& out, const job_context& job) {
  return write_changes(
      upper,
      [&](const auto& visit) { return for_each_layer_change(lower, upper, user_namespace, job, visit); }, out,
      job, tar_detail::image);
}

}  // namespace kiln::store
