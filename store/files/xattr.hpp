// Extended attributes of files named by a directory and a name, links not followed.
#pragma once

#include <map>
#include <string>

#include "base/result.hpp"

namespace kiln::store {

using xattr_map = std::map<std::string, std::string>;

/// All attributes of an entry; empty where the file system has none.
result<xattr_map> get_xattrs(int directory, const std::string& name);
/// One attribute; not_found when absent.
result<std::string> get_xattr(int directory, const std::string& name, const std::string& attribute);
status set_xattr(int directory, const std::string& name, const std::string& attribute,
                 const std::string& value);

/// The prefix of overlayfs' own attributes: "trusted.overlay.", in a user namespace "user.overlay.".
std::string overlay_xattr(bool user_namespace, std::string_view suffix);
/// Whether an attribute belongs to overlayfs or fuse-overlayfs, not to the file.
bool is_overlay_xattr(std::string_view attribute);

/// Tells the kernel that this directory of an upper directory holds whiteouts: one that is merged with none
/// below would show them. (An origin of no size: copied up from somewhere unknown.)
status mark_whiteouts(int directory, bool user_namespace);

}  // namespace kiln::store
