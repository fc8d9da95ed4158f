// Users and groups by name, as a root file system's own /etc/passwd and /etc/group have them.
// The look-ups are pure functions of the files' texts. Source: moby/sys/user GetExecUser,
// executor/oci/user.go.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace kiln::workers {

struct user_ids {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::vector<std::uint32_t> additional_gids;  // always has gid itself first, unless in the groups
};

/// "user[:group]" with names or numbers; "" is root. The texts are those of the two files, nothing where
/// a file is missing. Errors: "unable to find user x: no matching entries in passwd file",
/// "unable to find group x: no matching entries in group file", out of range.
result<user_ids> find_user(std::string_view spec, const std::optional<std::string>& passwd,
                           const std::optional<std::string>& group);

/// Where the first user with that id in the text of a passwd file is at home; "/" without one.
std::string home_of(std::uint32_t uid, const std::optional<std::string>& passwd);

/// The same with the files of a root; they are read only when names must be looked up.
result<user_ids> find_user_in_root(int root_fd, std::string_view spec);
std::string home_in_root(int root_fd, std::uint32_t uid);

/// The user, with its group, and the group of exactly that name among those of a root; nothing when there is
/// none of it, or no file of them. A file that is there and cannot be read as one is an error: it may be
/// meant to name them.
result<std::optional<user_ids>> user_named_in_root(int root_fd, std::string_view name);
result<std::optional<std::uint32_t>> group_named_in_root(int root_fd, std::string_view name);

}  // namespace kiln::workers
