#include "store/files/difference.hpp"

#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <optional>
#include <vector>

#include "base/files.hpp"
#include "configs/store.hpp"
#include "store/files/copy_tree.hpp"
#include "store/files/file_facts.hpp"
#include "store/files/same_tree.hpp"
#include "store/files/xattr.hpp"

namespace kiln::store {

namespace fs = std::filesystem;

namespace {

/// Metadata that counts; for everything but directories content too.
result<bool> same(int lower, const struct stat& a, int upper, const struct stat& b, const std::string& name,
                  const job_context& job) {
  if (a.st_dev == b.st_dev && a.st_ino == b.st_ino && a.st_ctim.tv_sec == b.st_ctim.tv_sec &&
      a.st_ctim.tv_nsec == b.st_ctim.tv_nsec)
    return true;
  if (a.st_mode != b.st_mode || a.st_uid != b.st_uid || a.st_gid != b.st_gid || a.st_rdev != b.st_rdev)
    return false;
  KILN_TRY(auto left, get_xattrs(lower, name));
  KILN_TRY(auto right, get_xattrs(upper, name));
  auto own = [](const auto& x) { return is_overlay_xattr(x.first); };
  std::erase_if(left, own);
  std::erase_if(right, own);
  if (left != right) return false;
  if (S_ISDIR(a.st_mode)) return true;
  if (a.st_mtim.tv_sec != b.st_mtim.tv_sec) return false;
  if (S_ISLNK(a.st_mode)) {
    KILN_TRY(auto x, link_target(lower, name, static_cast<std::size_t>(a.st_size)));
    KILN_TRY(auto y, link_target(upper, name, static_cast<std::size_t>(b.st_size)));
    return x == y;
  }
  if (!S_ISREG(a.st_mode)) return true;
  if (a.st_size != b.st_size) return false;
  if (a.st_mtim.tv_nsec != b.st_mtim.tv_nsec) {
    // Times cut to seconds, as archives do, say nothing about what happened within the second.
    if (a.st_mtim.tv_nsec != 0 && b.st_mtim.tv_nsec != 0) return false;
  } else if (a.st_mtim.tv_nsec != 0) {
    return true;
  }
  return same_content(lower, upper, name, job);
}

bool is_whiteout(const struct stat& info) { return S_ISCHR(info.st_mode) && info.st_rdev == ::makedev(0, 0); }

result<struct stat> look(int directory, const std::string& name) {
  struct stat info {};
  if (::fstatat(directory, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0)
    return errno_error(errno, "stat " + name);
  return info;
}

/// As look(), or nothing where there is no such entry.
result<std::optional<struct stat>> look_for(int directory, const std::string& name) {
  struct stat info {};
  if (::fstatat(directory, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) return std::optional(info);
  if (errno == ENOENT) return std::optional<struct stat>();
  return errno_error(errno, "stat " + name);
}

result<bool> is_opaque(int directory, const std::string& name, const std::string& attribute) {
  auto value = get_xattr(directory, name, attribute);
  if (value.ok()) return *value == "y";
  if (value.error().code == errc::not_found) return false;
  return std::move(value).error();
}

struct walker {
  const job_context& job;
  const std::function<status(const changed_entry&)>& visit;
  /// The attribute of opaque directories, where the upper tree is the upper directory of an overlay.
  std::string opaque;

  /// Names without whiteouts.
  result<std::vector<std::string>> upper_names(int directory) const {
    KILN_TRY(auto names, list_names(directory));
    if (!opaque.empty())
      std::erase_if(names, [&](const std::string& name) {
        auto info = look(directory, name);
        return info.ok() && is_whiteout(*info);
      });
    return names;
  }

  status tell(change kind, const std::string& prefix, const std::string& name, int directory,
              const struct stat& info) {
    changed_entry entry;
    entry.kind = kind;
    entry.path = prefix + name;
    entry.info = info;
    entry.directory = directory;
    entry.name = name;
    return visit(entry);
  }

  status added(int directory, const std::string& name, const std::string& prefix, const struct stat& info,
               int depth, change kind = change::added) {
    KILN_CHECK(tell(kind, prefix, name, directory, info));
    if (!S_ISDIR(info.st_mode)) return {};
    if (depth > limits::tree_depth)
      return make_error(errc::out_of_range, "directories are nested too deeply");
    KILN_TRY(auto child, open_at(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    KILN_TRY(auto names, upper_names(child.get()));
    for (const auto& n : names) {
      KILN_TRY(auto i, look(child.get(), n));
      KILN_CHECK(added(child.get(), n, prefix + name + "/", i, depth + 1));
    }
    return {};
  }

  status both(int lower, int upper, const std::string& prefix, int depth) {
    if (depth > limits::tree_depth)
      return make_error(errc::out_of_range, "directories are nested too deeply");
    KILN_CHECK(job.check());
    KILN_TRY(auto left, list_names(lower));
    KILN_TRY(auto right, upper_names(upper));
    auto a = left.begin();
    auto b = right.begin();
    while (a != left.end() || b != right.end()) {
      if (b == right.end() || (a != left.end() && *a < *b)) {
        KILN_TRY(auto info, look(lower, *a));
        KILN_CHECK(tell(change::removed, prefix, *a, lower, info));
        ++a;
      } else if (a == left.end() || *b < *a) {
        KILN_TRY(auto info, look(upper, *b));
        KILN_CHECK(added(upper, *b, prefix, info, depth));
        ++b;
      } else {
        KILN_TRY(auto x, look(lower, *a));
        KILN_TRY(auto y, look(upper, *b));
        KILN_TRY(auto equal, same(lower, x, upper, y, *a, job));
        if (S_ISDIR(x.st_mode) && S_ISDIR(y.st_mode)) {
          if (!equal) KILN_CHECK(tell(change::modified, prefix, *b, upper, y));
          KILN_TRY(auto l, open_at(lower, *a, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
          KILN_TRY(auto u, open_at(upper, *b, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
          KILN_CHECK(both(l.get(), u.get(), prefix + *a + "/", depth + 1));
        } else if (!equal) {
          KILN_CHECK(added(upper, *b, prefix, y, depth, change::modified));
        }
        ++a;
        ++b;
      }
    }
    return {};
  }

  /// As both(), where the lower tree shows through the upper one.
  status over(int lower, int upper, const std::string& prefix, int depth) {
    if (depth > limits::tree_depth)
      return make_error(errc::out_of_range, "directories are nested too deeply");
    KILN_CHECK(job.check());
    KILN_TRY(auto names, list_names(upper));
    for (const auto& name : names) {
      KILN_TRY(auto y, look(upper, name));
      KILN_TRY(auto x, look_for(lower, name));
      if (is_whiteout(y)) {
        if (x) KILN_CHECK(tell(change::removed, prefix, name, lower, *x));
        continue;
      }
      if (!x) {
        KILN_CHECK(added(upper, name, prefix, y, depth));
        continue;
      }
      KILN_TRY(auto equal, same(lower, *x, upper, y, name, job));
      if (!S_ISDIR(x->st_mode) || !S_ISDIR(y.st_mode)) {
        if (!equal) KILN_CHECK(added(upper, name, prefix, y, depth, change::modified));
        continue;
      }
      if (!equal) KILN_CHECK(tell(change::modified, prefix, name, upper, y));
      KILN_TRY(auto l, open_at(lower, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
      KILN_TRY(auto u, open_at(upper, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
      auto inside = prefix + name + "/";
      KILN_TRY(auto whole, is_opaque(upper, name, opaque));
      if (whole) KILN_CHECK(both(l.get(), u.get(), inside, depth + 1));
      else KILN_CHECK(over(l.get(), u.get(), inside, depth + 1));
    }
    return {};
  }
};

/// Looks for what an upper directory holds besides changes.
struct plain_check {
  const job_context& job;
  std::string opaque;

  /// Whether all in a directory is changes; sets `changed` when it has any. `lower` is -1 where nothing is.
  result<bool> holds(int lower, int upper, int depth, bool& changed) const {
    if (depth > limits::tree_depth)
      return make_error(errc::out_of_range, "directories are nested too deeply");
    KILN_CHECK(job.check());
    KILN_TRY(auto names, list_names(upper));
    for (const auto& name : names) {
      KILN_TRY(auto y, look(upper, name));
      std::optional<struct stat> x;
      if (lower >= 0) {
        KILN_TRY(x, look_for(lower, name));
      }
      bool differs = !x;
      if (is_whiteout(y)) {
        if (!x) return false;
        differs = true;
      } else if (x) {
        KILN_TRY(auto equal, same(lower, *x, upper, y, name, job));
        differs = !equal;
      }
      if (S_ISDIR(y.st_mode)) {
        KILN_TRY(auto whole, is_opaque(upper, name, opaque));
        if (whole) return false;
        KILN_TRY(auto u, open_at(upper, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
        unique_fd l;
        if (x && S_ISDIR(x->st_mode)) {
          KILN_TRY(l, open_at(lower, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
        }
        KILN_TRY(auto inside, holds(l.get(), u.get(), depth + 1, differs));
        if (!inside) return false;
      }
      if (!differs) return false;
      changed = true;
    }
    return true;
  }
};

/// Writes changes into a target tree.
struct change_writer {
  const job_context& job;
  int upper_root;
  int target_root;
  bool as_overlay;
  bool user_namespace;
  std::map<std::pair<dev_t, ino_t>, std::string> linked;
  std::vector<std::pair<std::string, std::string>> directories;  // whose times are set at the end

  result<unique_fd> parent_of(const std::string& path) {
    auto slash = path.rfind('/');
    auto parent = slash == std::string::npos ? std::string() : path.substr(0, slash);
    auto opened = open_in_root(target_root, parent, O_PATH | O_DIRECTORY | O_NOFOLLOW);
    if (opened.ok() || opened.error().code != errc::not_found) return opened;
    // A parent that did not change itself: like the one in the upper tree.
    KILN_TRY(auto above, parent_of(parent));
    auto cut = parent.rfind('/');
    auto name = cut == std::string::npos ? parent : parent.substr(cut + 1);
    KILN_TRY(auto source, open_in_root(upper_root, cut == std::string::npos ? "" : parent.substr(0, cut),
                                       O_RDONLY | O_DIRECTORY));
    struct stat info {};
    if (::fstatat(source.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0)
      return errno_error(errno, "stat " + parent);
    KILN_CHECK(copy_entry(source.get(), name, info, above.get(), name, job));
    directories.emplace_back(parent, name);
    return open_in_root(target_root, parent, O_PATH | O_DIRECTORY | O_NOFOLLOW);
  }

  status apply(const changed_entry& c) {
    KILN_TRY(auto parent, parent_of(c.path));
    auto at = fd_path(parent.get()) + "/" + c.name;
    struct stat there {};
    bool exists = ::fstatat(parent.get(), c.name.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0;
    if (c.kind == change::removed) {
      if (exists) KILN_CHECK(remove_tree(at));
      if (as_overlay && ::mknodat(parent.get(), c.name.c_str(), S_IFCHR, ::makedev(0, 0)) != 0)
        return errno_error(errno, "mknod whiteout " + c.path);
      if (as_overlay) KILN_CHECK(mark_whiteouts(parent.get(), user_namespace));
      return {};
    }
    bool is_directory = S_ISDIR(c.info.st_mode);
    if (exists && !(is_directory && S_ISDIR(there.st_mode))) KILN_CHECK(remove_tree(at));
    if (!is_directory && c.info.st_nlink > 1) {
      auto [first, is_new] = linked.try_emplace({c.info.st_dev, c.info.st_ino}, c.path);
      if (!is_new) {
        if (::linkat(target_root, first->second.c_str(), parent.get(), c.name.c_str(), 0) != 0)
          return errno_error(errno, "link " + c.path);
        return {};
      }
    }
    // Layers never change again, so they may share files.
    if (as_overlay && S_ISREG(c.info.st_mode)) {
      if (::linkat(c.directory, c.name.c_str(), parent.get(), c.name.c_str(), 0) == 0) return {};
      if (!cannot_be_linked(errno)) return errno_error(errno, "link " + c.path);
    }
    KILN_CHECK(copy_entry(c.directory, c.name, c.info, parent.get(), c.name, job));
    if (is_directory) directories.emplace_back(c.path, c.name);
    // A directory where the lower tree has something else replaces it whole by itself; a directory over
    // a directory is merged, and what went from it is whited out one by one.
    return {};
  }

  /// Filling directories changed their times.
  status finish() {
    for (auto d = directories.rbegin(); d != directories.rend(); ++d) {
      auto source = open_in_root(upper_root, d->first, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      auto target = open_in_root(target_root, d->first, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      struct stat info {};
      if (!source.ok() || !target.ok() || ::fstat(source->get(), &info) != 0) continue;
      const struct timespec times[2] = {info.st_atim, info.st_mtim};
      if (::futimens(target->get(), times) != 0) return errno_error(errno, "set times of " + d->first);
    }
    return {};
  }
};

using walk = std::function<status(const std::function<status(const changed_entry&)>&)>;

status write_changes(const walk& changes, const fs::path& upper, const fs::path& target, bool as_overlay,
                     bool user_namespace, const job_context& job) {
  KILN_TRY(auto upper_root, open_file(upper, O_RDONLY | O_DIRECTORY));
  KILN_TRY(auto target_root, open_file(target, O_RDONLY | O_DIRECTORY));
  change_writer writer{job, upper_root.get(), target_root.get(), as_overlay, user_namespace, {}, {}};
  KILN_CHECK(changes([&](const changed_entry& c) { return writer.apply(c); }));
  KILN_CHECK(writer.finish());
  struct stat info {};
  if (::fstat(upper_root.get(), &info) != 0) return errno_error(errno, "stat " + upper.string());
  return copy_metadata(upper_root.get(), ".", info, target_root.get(), ".");
}

}  // namespace

status for_each_change(const fs::path& lower, const fs::path& upper, const job_context& job,
                       const std::function<status(const changed_entry&)>& visit) {
  KILN_TRY(auto a, open_file(lower, O_RDONLY | O_DIRECTORY));
  KILN_TRY(auto b, open_file(upper, O_RDONLY | O_DIRECTORY));
  return walker{job, visit, {}}.both(a.get(), b.get(), "", 0);
}

status for_each_layer_change(const fs::path& lower, const fs::path& upper, bool user_namespace,
                             const job_context& job,
                             const std::function<status(const changed_entry&)>& visit) {
  KILN_TRY(auto a, open_file(lower, O_RDONLY | O_DIRECTORY));
  KILN_TRY(auto b, open_file(upper, O_RDONLY | O_DIRECTORY));
  return walker{job, visit, overlay_xattr(user_namespace, "opaque")}.over(a.get(), b.get(), "", 0);
}

result<bool> holds_only_changes(const fs::path& lower, const fs::path& upper, bool user_namespace,
                                const job_context& job) {
  KILN_TRY(auto a, open_file(lower, O_RDONLY | O_DIRECTORY));
  KILN_TRY(auto b, open_file(upper, O_RDONLY | O_DIRECTORY));
  bool ignored = false;
  return plain_check{job, overlay_xattr(user_namespace, "opaque")}.holds(a.get(), b.get(), 0, ignored);
}

status make_upper(const fs::path& lower, const fs::path& upper, const fs::path& target, bool user_namespace,
                  const job_context& job) {
  auto changes = [&](const auto& visit) { return for_each_change(lower, upper, job, visit); };
  return write_changes(changes, upper, target, true, user_namespace, job);
}

status make_plain_upper(const fs::path& lower, const fs::path& upper, const fs::path& target,
                        bool user_namespace, const job_context& job) {
  auto changes = [&](const auto& visit) {
    return for_each_layer_change(lower, upper, user_namespace, job, visit);
  };
  return write_changes(changes, upper, target, true, user_namespace, job);
}

status apply_changes(const fs::path& lower, const fs::path& upper, const fs::path& target,
                     const job_context& job) {
  auto changes = [&](const auto& visit) { return for_each_change(lower, upper, job, visit); };
  return write_changes(changes, upper, target, false, false, job);
}

}  // namespace kiln::store
