// Defaults of layer compression: units and ranges beside each value. Plain constants, no code.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kiln::configs {

/// Bytes of input compressed as one gzip member; part of the output format (changing it
/// changes the bytes of every new gzip layer). 256 KiB … 16 MiB.
inline constexpr std::size_t gzip_block_size = 1 << 20;
/// Bytes of a file that an eStargz layer has as one piece. 64 KiB … 64 MiB.
inline constexpr std::int64_t estargz_chunk_size = 4 << 20;
/// Bytes of an entry's headers in such a layer.
inline constexpr std::size_t estargz_headers_max = 1 << 20;
/// 0–9, libdeflate's: its 4 makes layers no larger than gzip's usual 6 does, in two thirds of the time its 6
/// takes.
inline constexpr int gzip_default_level = 4;
/// 1–22.
inline constexpr int zstd_default_level = 3;
/// The zstd window we write at every level, log2 bytes: every decoder must accept 8 MiB. Source: RFC 8878
/// section 3.1.1.1.2.
inline constexpr int zstd_window_log = 23;
/// Bytes of input of one zstd job; part of the output format. No smaller than the window it looks back on.
inline constexpr int zstd_job_size = 1 << zstd_window_log;
/// Largest zstd window we accept, log2 bytes. 23–31.
inline constexpr int zstd_accepted_window_log = 27;
/// Input and output buffers of one decompression, bytes.
inline constexpr std::size_t decompress_buffer_size = 256 << 10;
/// Output buffers decompressed ahead of the reader. 2–64.
inline constexpr std::size_t decompress_read_ahead = 4;
/// Bytes of output, zeros not counted, below which no compression ratio is suspicious: a file of one byte
/// repeated is as small as a bomb. 1 MiB … 64 GiB.
inline constexpr long long decompress_free_output = 1LL << 30;
/// Above it, output for each byte of input. gzip reaches 1,032, zstd 32,768, bzip2 1,000,000. 100 … 100,000.
inline constexpr double decompress_ratio_max = 2'000;
/// Bytes that one stream may become at all, zeros counted: somebody has to go through them. 1 GiB … 64 TiB.
inline constexpr long long decompress_total_max = 2LL << 40;
/// Memory of one xz decoder, bytes: its highest preset needs 65 MiB. 16 MiB … 4 GiB.
inline constexpr unsigned long long xz_memory_max = 256ULL << 20;
/// Threads of one compressor when all cores are asked for. 1–64.
inline constexpr unsigned compress_max_threads = 16;

}  // namespace kiln::configs
