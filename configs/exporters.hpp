// Limits of exporting: units and ranges beside each value. Plain constants, no code.
#pragma once

#include <chrono>
#include <cstddef>

namespace kiln::configs {

/// Bytes of one message to the client. Source: session/filesync/filesync.go, 3 MiB.
inline constexpr std::size_t export_message_size = 3 << 20;
/// Layers compressed side by side; each compresses on all cores. 1–16.
inline constexpr unsigned export_parallel_layers = 4;
/// Indexes within indexes, down to the layers of an image that leaves.
inline constexpr int image_depth_max = 4;
/// Wait for the client's session.
inline constexpr std::chrono::milliseconds export_session_wait{5'000};
/// Buffer between tar writer and compressor, bytes.
inline constexpr std::size_t export_buffer_size = 128 << 10;
/// Bytes of a pax header we rewrite.
inline constexpr std::size_t max_pax_header = 1 << 20;
/// Bytes of one attestation's predicate. Source: exporter/attestation/make.go, 40 MiB.
inline constexpr long attestation_bytes_max = 40L << 20;
/// Buffer for hashing the files an attestation is about, bytes.
inline constexpr std::size_t hash_buffer = 64 << 10;

}  // namespace kiln::configs
