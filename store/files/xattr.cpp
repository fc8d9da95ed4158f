#include "store/files/xattr.hpp"

#include <sys/xattr.h>

#include <cerrno>

#include "base/files.hpp"

namespace kiln::store {

namespace {

// The l*xattr calls take paths only; /proc/self/fd/<dir>/<name> stays beneath the open directory.
std::string path_of(int directory, const std::string& name) { return fd_path(directory) + "/" + name; }

result<std::string> get_by_path(const std::string& path, const std::string& attribute) {
  std::string value(256, '\0');
  while (true) {
    auto size = ::lgetxattr(path.c_str(), attribute.c_str(), value.data(), value.size());
    if (size >= 0) {
      value.resize(static_cast<std::size_t>(size));
      return value;
    }
    if (errno == ENODATA || errno == ENOTSUP) return make_error(errc::not_found, "no attribute " + attribute);
    if (errno != ERANGE) return errno_error(errno, "get attribute " + attribute);
    size = ::lgetxattr(path.c_str(), attribute.c_str(), nullptr, 0);
    if (size < 0) return errno_error(errno, "get attribute " + attribute);
    value.resize(static_cast<std::size_t>(size) + 1);
  }
}

}  // namespace

result<xattr_map> get_xattrs(int directory, const std::string& name) {
  auto path = path_of(directory, name);
  char small[1024];
  std::string names;
  auto size = ::llistxattr(path.c_str(), small, sizeof small);
  while (size < 0 && errno == ERANGE) {
    size = ::llistxattr(path.c_str(), nullptr, 0);
    if (size < 0) break;
    names.resize(static_cast<std::size_t>(size) + 64);
    size = ::llistxattr(path.c_str(), names.data(), names.size());
  }
  if (size < 0) {
    if (errno == ENOTSUP) return xattr_map{};
    return errno_error(errno, "list attributes of " + name);
  }
  if (names.empty()) names.assign(small, static_cast<std::size_t>(size));
  else names.resize(static_cast<std::size_t>(size));
  xattr_map all;
  for (std::size_t at = 0; at < names.size();) {
    std::string attribute = names.c_str() + at;
    at += attribute.size() + 1;
    auto value = get_by_path(path, attribute);
    if (value.ok()) {
      all[attribute] = *std::move(value);
    } else if (value.error().code != errc::not_found) {
      return std::move(value).error().with_context(name);
    }
  }
  return all;
}

result<std::string> get_xattr(int directory, const std::string& name, const std::string& attribute) {
  return get_by_path(path_of(directory, name), attribute);
}

status set_xattr(int directory, const std::string& name, const std::string& attribute,
                 const std::string& value) {
  if (::lsetxattr(path_of(directory, name).c_str(), attribute.c_str(), value.data(), value.size(), 0) != 0)
    return errno_error(errno, "set attribute " + attribute + " of " + name);
  return {};
}

std::string overlay_xattr(bool user_namespace, std::string_view suffix) {
  return (user_namespace ? "user.overlay." : "trusted.overlay.") + std::string(suffix);
}

bool is_overlay_xattr(std::string_view attribute) {
  for (std::string_view prefix :
       {"trusted.overlay.", "user.overlay.", "user.fuseoverlayfs.", "security.fuseoverlayfs."})
    if (attribute.substr(0, prefix.size()) == prefix) return true;
  return false;
}

status mark_whiteouts(int directory, bool user_namespace) {
  return set_xattr(directory, ".", overlay_xattr(user_namespace, "origin"), "");
}

}  // namespace kiln::store
