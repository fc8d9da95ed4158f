// One file as the tree transfer protocol describes it: Go's mode bits, nanoseconds, xattrs; to and from the
// kernel's. Pure conversions and the one fstatat wrapper every walker shares. Source: fsutil stat.go, wire.md
// section 6.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <sys/stat.h>

#include "base/result.hpp"
#include "stat.pb.h"

namespace kiln::filesync {

using file_stat = fsutil::types::Stat;

/// Bits of Go's io/fs.FileMode.
namespace go_mode {
inline constexpr std::uint32_t dir = 1U << 31;
inline constexpr std::uint32_t symlink = 1U << 27;
inline constexpr std::uint32_t device = 1U << 26;
inline constexpr std::uint32_t named_pipe = 1U << 25;
inline constexpr std::uint32_t socket = 1U << 24;
inline constexpr std::uint32_t setuid = 1U << 23;
inline constexpr std::uint32_t setgid = 1U << 22;
inline constexpr std::uint32_t char_device = 1U << 21;
inline constexpr std::uint32_t sticky = 1U << 20;
inline constexpr std::uint32_t irregular = 1U << 19;
inline constexpr std::uint32_t type_mask =
    dir | symlink | device | named_pipe | socket | char_device | irregular;
inline constexpr std::uint32_t permissions = 0777;
}  // namespace go_mode

/// st_mode → Go's mode. The socket bit is kept; senders clear it.
std::uint32_t to_go_mode(mode_t mode);
/// Go's mode → permissions with setuid, setgid and sticky (07777), no type.
mode_t permission_bits(std::uint32_t go);
/// Go's mode → S_IF… ; regular when no type bit is set.
mode_t file_type(std::uint32_t go);

inline bool is_dir(const file_stat& s) { return (s.mode() & go_mode::dir) != 0; }
inline bool is_symlink(const file_stat& s) { return (s.mode() & go_mode::symlink) != 0; }
/// Whether content may be asked for: no type bit at all.
inline bool is_regular(const file_stat& s) { return (s.mode() & go_mode::type_mask) == 0; }

/// Order of paths in a transfer: bytes, with '/' lowest. <0, 0, >0.
int compare_paths(std::string_view a, std::string_view b);

/// Fills everything but hard links from an lstat result: `name` below `dir_fd` for the link's target
/// and xattrs, `path` as it goes into the stat. `com.apple.*` and overlayfs' own xattrs, and the socket bit,
/// are left out.
status fill_stat(int dir_fd, const char* name, const struct stat& st, std::string_view path, file_stat& out);
/// The same of what a descriptor (O_PATH will do) stands for.
status fill_stat(int fd, const struct stat& st, std::string_view path, file_stat& out);
/// What of that needs no further call: neither a link's target nor xattrs.
void fill_plain(const struct stat& st, std::string_view path, file_stat& out);
/// The target of the link `name` below `dir_fd`, or with no name of the one that `dir_fd` stands for.
status fill_link(int dir_fd, const char* name, std::string_view path, file_stat& out);

}  // namespace kiln::filesync
