// Limits of sources that fetch from elsewhere: units and ranges beside each value. Plain constants, no code.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace kiln::configs {

/// Bytes of one download.
inline constexpr std::int64_t max_download_size = 64LL << 30;
/// Attempts of one download.
inline constexpr int download_attempts = 3;
/// Bytes a checksum request may append. Source: source/http/source.go.
inline constexpr std::size_t max_checksum_suffix = 4'096;
/// Sources that one build may resolve: tags, branches, URLs.
inline constexpr std::size_t resolved_sources_max = 20'000;
/// Answer time of a client asked for a secret.
inline constexpr std::chrono::milliseconds source_call_timeout{60'000};

}  // namespace kiln::configs
