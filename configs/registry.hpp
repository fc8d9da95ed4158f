// Limits of talking to registries: units and ranges beside each value. Plain constants, no code.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace kiln::configs {

/// Bulk transfers at a time per registry when `[system] maxRegistryConcurrency` is not set, and the most it
/// may be.
inline constexpr unsigned registry_concurrency = 4;
inline constexpr unsigned registry_concurrency_max = 1'024;
/// Bytes of a manifest or index we read. Source: distribution's own limit of 4 MiB.
inline constexpr std::int64_t max_manifest_size = 4 << 20;
/// Bytes of an image config we read.
inline constexpr std::int64_t max_image_config_size = 8 << 20;
/// Bytes of a token or error answer we read.
inline constexpr std::int64_t max_answer_size = 1 << 20;
/// Manifests in an index, layers in a manifest.
inline constexpr std::size_t max_index_entries = 1'024;
inline constexpr std::size_t max_image_layers = 1'024;
/// Time to establish a connection, TLS included.
inline constexpr std::chrono::milliseconds registry_connect_timeout{30'000};
/// A peer that moves no byte for so long is gone; one that digests an upload gets more.
inline constexpr std::chrono::seconds registry_stall_timeout{45};
inline constexpr std::chrono::seconds registry_commit_timeout{600};
/// Attempts of one request, and the pause before the second; it doubles, to the maximum.
inline constexpr int registry_attempts = 5;
inline constexpr std::chrono::milliseconds registry_backoff{500};
inline constexpr std::chrono::milliseconds registry_max_backoff{8'000};
/// Longest Retry-After obeyed.
inline constexpr std::chrono::seconds registry_max_retry_after{60};
/// Bytes of one upload request; larger blobs go in chunks only when a whole upload failed.
inline constexpr std::int64_t registry_chunk_size = 32 << 20;
/// Answer time of a client asked for credentials or a token.
inline constexpr std::chrono::milliseconds auth_timeout{60'000};
/// Life of a token whose server names none. Source: util/resolver/authorizer.go, defaultExpiration.
inline constexpr std::chrono::seconds token_default_life{60};
/// Idle connections kept, all hosts together.
inline constexpr std::size_t registry_idle_connections = 32;
/// Other sessions' authorizations that a new session is compared with. 1 – 64.
inline constexpr std::size_t registry_shared_entries = 16;
/// Cached tokens and challenges.
inline constexpr std::size_t registry_auth_entries = 1'024;

}  // namespace kiln::configs
