// Limits of the containers that gateway clients keep.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kiln::configs::containers {

/// Processes that may run at a time in all of them. 1 – 1,000.
inline constexpr std::size_t processes_max = 64;
/// Threads a process needs at most: its run, its standard input, its signals and sizes.
inline constexpr unsigned threads_per_process = 3;
/// Containers one build may hold. 1 – 1,000.
inline constexpr std::size_t containers_per_build_max = 64;
/// Output of a process that its client has not taken yet; the process waits beyond. 64 KiB – 16 MiB.
inline constexpr std::uint64_t output_ahead_bytes = 1 << 20;
/// One message of output. Source: Go's io.Copy. 4 KiB – 1 MiB.
inline constexpr std::size_t output_message_bytes = 32 << 10;
/// Input of a process that it has not read yet; the client waits beyond. 64 KiB – 16 MiB.
inline constexpr std::size_t input_ahead_bytes = 256 << 10;
/// Largest file read from a container at once. 1 – 16 MiB (one message).
inline constexpr std::int64_t file_bytes_max = 16 << 20;

}  // namespace kiln::configs::containers
