// Defaults and bounds of running containers (workers/executor). Plain constants.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace kiln::configs {

inline constexpr std::size_t max_user_file_size = 10 * 1024 * 1024;  // bytes of /etc/passwd, /etc/group
inline constexpr const char* default_hostname = "buildkitsandbox";
inline constexpr const char* default_path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
inline constexpr const char* default_windows_path =
    "c:\\Windows\\System32;c:\\Windows;C:\\Windows\\System32\\WindowsPowerShell\\v1.0";
/// By the name of the system. Source: util/system/path.go.
constexpr const char* default_path_of(std::string_view os) {
  return os == "windows" ? default_windows_path : default_path;
}

// Log limits of a step: BUILDKIT_STEP_LOG_MAX_SIZE and _MAX_SPEED override, -1 = none.
inline constexpr std::int64_t step_log_max_size = 2 * 1024 * 1024;  // bytes a stream
inline constexpr std::int64_t step_log_max_speed = 200 * 1024;      // bytes a second and stream
inline constexpr std::size_t step_log_tail = 256 * 1024;            // bytes kept of what was clipped

/// States of one file op that stay mounted to be read again. 4 – 1,000.
inline constexpr std::size_t file_op_readers_max = 64;
/// States of one file op that stay open to be written on, or read, once; further ones are committed. 4 –
/// 1,000.
inline constexpr std::size_t file_op_open_max = 64;
/// Bytes of a command line that records, errors and logs repeat.
inline constexpr std::size_t shown_command_bytes = 4'096;

inline constexpr std::size_t max_overlay_options = 4096 - 512;  // bytes; longer ones are mounted by us
inline constexpr std::size_t cni_output_bytes_max = 1 << 20;    // of one plugin
inline constexpr std::int64_t cni_config_bytes_max = 1 << 20;
inline constexpr std::int64_t host_file_bytes_max = 1 << 20;   // of resolv.conf
inline constexpr std::int64_t cni_note_bytes_max = 4 << 20;    // what we keep of one network
inline constexpr std::size_t cgroup_parent_bytes_max = 2'048;  // of a path; PATH_MAX has to hold the rest too
inline constexpr std::int64_t made_groups_bytes_max = 1 << 20;     // of a list of their directories
inline constexpr std::int64_t bundle_config_bytes_max = 64 << 20;  // of one container
inline constexpr std::size_t max_secret_size = 512'000;            // bytes, upstream's 500 KiB
inline constexpr std::chrono::milliseconds secret_timeout{60'000};
/// How long a runtime may take to go once everything in its container is dead.
inline constexpr std::chrono::milliseconds kill_grace{5000};
/// How long exec() waits for its container to be up.
inline constexpr std::chrono::milliseconds exec_start_wait{10'000};

}  // namespace kiln::configs
