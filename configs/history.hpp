// Bounds of the build history: units and ranges beside each value. Plain constants, no code.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace kiln::configs::history {

/// How many of the newest finished builds stay however old they are, and how old the others may get, unless
/// `[history]` says otherwise. Source: BuildKit's defaults.
inline constexpr int entries_max = 50;
inline constexpr std::chrono::hours age_max{48};

/// However young they are, unpinned records beyond these go, oldest first: how many there may be …
inline constexpr std::size_t records_max = 10'000;  // 100 – 100,000
/// … bytes of the records themselves, all of which are in memory …
inline constexpr std::size_t record_bytes_max = 64u << 20;
/// … and bytes of what is kept with them on disk: logs, errors, traces, provenance.
inline constexpr std::int64_t document_bytes_max = std::int64_t{4} << 30;
/// Records that clients may pin, which are never cleaned away.
inline constexpr std::size_t pinned_max = 1'000;

/// Refs of deleted records that are remembered as such, the newest ones.
inline constexpr std::size_t remembered_deletions_max = 1'000;

/// A larger record loses the long texts of its request and answer: every listener gets it in one message.
inline constexpr std::size_t one_record_bytes_max = 1u << 20;
inline constexpr std::size_t long_text_bytes = 4'096;

/// Bytes of one log that are read back for a trace or a replay.
inline constexpr std::int64_t log_bytes_max = 256 << 20;

/// A clean-up waits so long after a build has ended, so that many are cleaned up after at once …
inline constexpr std::chrono::milliseconds settle_time{1'000};
/// … looks at least so often for what has become too old …
inline constexpr std::chrono::minutes sweep_interval{10};
/// … and removes so many records before others have their turn. 1 – 1,000.
inline constexpr std::size_t sweep_batch = 64;

}  // namespace kiln::configs::history
