// Bounds and sizes of the store.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace kiln::store::limits {

inline constexpr std::size_t copy_buffer = 256 * 1024;  // bytes, 4 KiB … 16 MiB
inline constexpr std::size_t copy_step = 64u << 20;     // bytes copied between two looks at the stop token
inline constexpr std::size_t hole_bytes = 64 * 1024;    // shorter runs of zeros are written, 4 KiB … 1 MiB
inline constexpr int tree_depth = 2'000;                // directories below each other, 64 … 10,000

inline constexpr std::int64_t proc_file_bytes = 64 << 20;  // of a table in /proc

// Blobs.
inline constexpr std::chrono::hours partial_blob_age{
    24};  // how long a blob not brought to its end waits for more
inline constexpr std::chrono::hours unreferenced_blob_age{1};  // before prune takes one while builds run
inline constexpr std::int64_t blob_labels_bytes = 64 * 1024;   // of one blob's labels
inline constexpr std::size_t document_bytes = 4 << 20;  // of a document, looked through for what it names

// Metadata (LMDB).
inline constexpr std::size_t map_size = std::size_t{16} << 20;      // bytes, initial; doubles when full
inline constexpr std::size_t map_size_max = std::size_t{64} << 30;  // bytes
inline constexpr unsigned database_readers = 512;                   // concurrent read transactions
inline constexpr std::size_t writes_per_commit = 256;               // coalesced in one transaction
inline constexpr std::uint64_t database_reserve = 4
                                                  << 20;  // bytes allocated beyond what is used, for cleaning
inline constexpr std::int64_t database_lock_bytes = 64 * 1024;  // of LMDB's lock file, allocated: 64 a reader
inline constexpr std::size_t remembered_values =
    4'096;  // of one bucket of what may be forgotten, 100 … 100,000
inline constexpr std::size_t removed_at_once =
    4'096;  // records in one transaction; fewer while the disk is full
inline constexpr std::chrono::seconds flush_retry{5};  // after one that the disk refused

// Layers.
// In one mount; those below more are merged. The kernel stacks 500; without lowerdir+ (before Linux 6.5) the
// names of all have to fit into a page.
inline constexpr std::size_t stacked_layers = 256;
inline constexpr std::size_t records_deep = 1'000'000;  // that stand on each other, 10,000 … 100,000,000
inline constexpr std::size_t state_layers = 10'000;     // of one file system, 500 … 100,000
/// Merges of what was made elsewhere and differences, one within the other: each may have to be made while
/// making the one around it. 10 … 300: they are made recursively.
inline constexpr std::size_t state_nesting = 200;
inline constexpr unsigned parallel_layers = 6;        // fetched or unpacked at once by one job, 1 … 16
inline constexpr std::chrono::seconds sync_delay{2};  // quiet time before snapshots are made durable

// Layers on their way to other nodes.
inline constexpr int transport_level = 1;                     // of zstd
inline constexpr std::size_t transport_buffer = 256 * 1024;   // bytes between tar writer and compressor
inline constexpr std::int64_t transport_progress = 16 << 20;  // bytes packed between two signs of life

// Archives.
inline constexpr std::size_t archive_name = 4'096;  // bytes of one path or link target
inline constexpr std::size_t archive_special =
    1 << 20;  // bytes of the pax records or the sparse map of one entry
inline constexpr std::size_t archive_xattr = 64 * 1024;      // bytes of one value
inline constexpr int links_in_archive_name = 40;             // to nowhere, followed to make directories
inline constexpr std::int64_t archive_entries = 20'000'000;  // of one archive
inline constexpr std::int64_t archive_entry_size = std::int64_t{1} << 42;  // bytes of one file
inline constexpr std::int64_t archive_bytes = std::int64_t{1} << 40;       // of all files of one archive

// Content hashing.
inline constexpr int symlinks_followed = 255;      // in one path
inline constexpr unsigned hash_threads = 8;        // at most, and not more than the cores
inline constexpr std::size_t trees_in_memory = 8;  // digest trees kept between questions

}  // namespace kiln::store::limits
