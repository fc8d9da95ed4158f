#include "store/files/unchanged_dirs.hpp"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <optional>
#include <string>
#include <vector>

#include "base/files.hpp"
#include "configs/store.hpp"
#include "store/files/xattr.hpp"

namespace kiln::store {

namespace {

bool is_whiteout(const struct stat& info) { return S_ISCHR(info.st_mode) && info.st_rdev == ::makedev(0, 0); }

struct pruner {
  std::vector<unique_fd> below;  // top first
  std::string opaque, redirect;

  /// Whether the merged layers below have the directory with this metadata.
  bool has_same(const std::string& path, const struct stat& wanted, const xattr_map& attributes) const {
    for (const auto& layer : below) {
      auto cut = path.rfind('/');
      auto parent = open_in_root(layer.get(), cut == std::string::npos ? "." : path.substr(0, cut),
                                 O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      auto name = cut == std::string::npos ? path : path.substr(cut + 1);
      struct stat info {};
      if (parent.ok() && ::fstatat(parent->get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) {
        if (!S_ISDIR(info.st_mode) || info.st_mode != wanted.st_mode || info.st_uid != wanted.st_uid ||
            info.st_gid != wanted.st_gid || info.st_mtim.tv_sec != wanted.st_mtim.tv_sec ||
            info.st_mtim.tv_nsec != wanted.st_mtim.tv_nsec)
          return false;
        auto there = get_xattrs(parent->get(), name);
        if (!there.ok()) return false;
        std::erase_if(*there, [](const auto& x) { return is_overlay_xattr(x.first); });
        return *there == attributes;
      }
      if (hides(layer.get(), path)) return false;
    }
    return false;
  }

  /// Whether nothing of the path shows through from the layers below this one.
  bool hides(int layer, const std::string& path) const {
    for (auto cut = path.find('/');; cut = path.find('/', cut + 1)) {
      auto part = path.substr(0, cut);
      auto slash = part.rfind('/');
      auto parent = open_in_root(layer, slash == std::string::npos ? "." : part.substr(0, slash),
                                 O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
      if (!parent.ok()) return parent.error().code != errc::not_found;
      auto name = slash == std::string::npos ? part : part.substr(slash + 1);
      struct stat info {};
      if (::fstatat(parent->get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return errno != ENOENT;
      if (!S_ISDIR(info.st_mode)) return true;
      for (const auto& attribute : {opaque, redirect}) {
        auto value = get_xattr(parent->get(), name, attribute);
        if (value.ok() || value.error().code != errc::not_found) return true;
      }
      if (cut == std::string::npos) return false;
    }
  }

  /// Without a trace in the time of the directory it was in.
  static bool remove(int directory, const std::string& name) {
    struct stat before {};
    if (::fstat(directory, &before) != 0 || ::unlinkat(directory, name.c_str(), AT_REMOVEDIR) != 0)
      return false;
    const struct timespec times[2] = {before.st_atim, before.st_mtim};
    ::futimens(directory, times);
    return true;
  }

  /// Whether the directory is empty once what is inside has been looked at.
  result<bool> prune(int directory, const std::string& prefix, int depth) const {
    if (depth > limits::tree_depth)
      return make_error(errc::out_of_range, "directories are nested too deeply");
    KILN_TRY(auto names, list_names(directory));
    bool is_empty = true;
    for (const auto& name : names) {
      struct stat info {};
      if (::fstatat(directory, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0)
        return errno_error(errno, "stat " + prefix + name);
      if (!S_ISDIR(info.st_mode) || is_whiteout(info)) {
        is_empty = false;
        continue;
      }
      KILN_TRY(auto attributes, get_xattrs(directory, name));
      // Nothing below shows through: what is in it is all there is.
      bool special = attributes.contains(opaque) || attributes.contains(redirect);
      bool child_empty = false;
      if (!special) {
        KILN_TRY(auto child, open_at(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
        KILN_TRY(child_empty, prune(child.get(), prefix + name + "/", depth + 1));
      }
      if (child_empty) {
        std::erase_if(attributes, [](const auto& x) { return is_overlay_xattr(x.first); });
        if (has_same(prefix + name, info, attributes) && remove(directory, name)) continue;
      }
      is_empty = false;
    }
    return is_empty;
  }
};

}  // namespace

status remove_untouched_directories(const std::filesystem::path& upper,
                                    std::span<const std::filesystem::path> below, bool user_namespace) {
  if (below.empty()) return {};
  pruner p;
  p.opaque = overlay_xattr(user_namespace, "opaque");
  p.redirect = overlay_xattr(user_namespace, "redirect");
  for (auto layer = below.rbegin(); layer != below.rend(); ++layer) {
    KILN_TRY(auto fd, open_file(*layer, O_RDONLY | O_DIRECTORY));
    p.below.push_back(std::move(fd));
  }
  KILN_TRY(auto root, open_file(upper, O_RDONLY | O_DIRECTORY));
  KILN_TRY(auto ignored, p.prune(root.get(), "", 0));
  (void)ignored;
  return {};
}

}  // namespace kiln::store
