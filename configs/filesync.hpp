// Bounds of the tree transfer (filesync). Plain constants.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace kiln::configs {

inline constexpr std::size_t max_xattr_list_size = 64 * 1024;   // bytes, the kernel's own limit
inline constexpr std::size_t max_xattr_value_size = 64 * 1024;  // bytes, the kernel's own limit

inline constexpr std::size_t filesync_chunk_size = 128 * 1024;  // bytes a DATA packet; 32 KiB … 1 MiB
inline constexpr std::size_t filesync_senders = 2;              // threads reading files; 1 … 8
inline constexpr std::size_t filesync_stat_queue = 1024;  // STATs received but not handled; 128 … 65536
inline constexpr std::size_t filesync_open_files = 128;   // files half received; 4 … 512
inline constexpr std::uint32_t filesync_max_entries = 20'000'000;        // files of one transfer
inline constexpr std::size_t filesync_max_path = 4096;                   // bytes, the kernel's own limit
inline constexpr std::size_t filesync_max_metadata = 512 * 1024 * 1024;  // bytes of a .fsutil-metadata file
inline constexpr std::size_t filesync_max_error = 64 * 1024;             // bytes of a peer's error text kept
/// How long a peer may take to end the stream after we told it of an error.
inline constexpr std::chrono::milliseconds filesync_error_grace{2000};

}  // namespace kiln::configs
