// Limits and times of the gRPC front door: units in the names, ranges in the comments.
#pragma once

#include <chrono>
#include <cstddef>

namespace kiln::configs::gateway {

/// Largest message either way on control, session and gateway connections. Source: wire.md section 1.
inline constexpr int message_bytes_max = 16 << 20;
/// Largest set of headers accepted: client errors and capability lists travel in them. 64 KiB – 8 MiB.
inline constexpr int metadata_bytes_max = 1 << 20;
/// Of an error: bytes of its text, and of all its details together. What is larger is cut, or left out,
/// largest first: clients that take headers of 1 MiB must get it, base64 and all. 4 – 64 KiB; 16 – 512 KiB.
inline constexpr std::size_t error_text_bytes_max = 32 << 10;
inline constexpr std::size_t error_details_bytes_max = 384 << 10;

/// Builds that run at once, and sessions that are open; more are refused. 1 – 100,000.
inline constexpr std::size_t builds_max = 4'096;
inline constexpr std::size_t sessions_max = 8'192;
/// Calls at once on one connection; the client waits with more, as HTTP/2 has it. 100 – 100,000.
inline constexpr int streams_per_connection_max = 10'000;

/// Payload of one StatusResponse. 64 KiB – 8 MiB.
inline constexpr std::size_t status_message_bytes_max = 1 << 20;
/// Progress waiting for one slow reader; beyond it log text is dropped and what is only under way, the
/// beginnings and ends of vertices never … 1 – 256 MiB.
inline constexpr std::size_t status_backlog_bytes_max = 32 << 20;
/// … but whoever has not read so much of a stream is hung up on. Larger than a whole history or log. 64 MiB –
/// 1 GiB.
inline constexpr std::size_t stream_backlog_bytes_max = 256 << 20;

/// One read from a session tunnel's socket, so the payload of one BytesMessage. 16 KiB – 3 MiB.
inline constexpr std::size_t tunnel_read_bytes = 64 << 10;
/// Messages read ahead on a session stream before its job has asked for them, in bytes. 64 KiB – 64 MiB.
inline constexpr std::size_t stream_read_ahead_bytes = 2 << 20;
/// Messages a job may have written that the network has not taken yet, in bytes. 64 KiB – 64 MiB.
inline constexpr std::size_t stream_write_ahead_bytes = 2 << 20;

/// Health of a session. Source: BuildKit session/grpc.go.
inline constexpr std::chrono::milliseconds health_interval{5'000};
inline constexpr std::chrono::milliseconds health_timeout{15'000};
inline constexpr int health_failures_max = 2;
/// Floor of a client's own health time-out.
inline constexpr std::chrono::milliseconds health_custom_min{1'000};

/// How long clients may take to hear that their build has ended before a daemon that stops hangs up. 100 ms –
/// 10 s.
inline constexpr std::chrono::milliseconds last_calls{2'000};

/// Threads that read blobs and do other blocking work for the gateway. 1 – 16.
inline constexpr std::size_t blocking_threads = 2;
/// One message of Content.Read. Source: containerd's content service sends 1 MiB buffers. 64 KiB – 4 MiB.
inline constexpr std::size_t content_read_bytes = 1 << 20;
/// Blobs in one message of Content.List.
inline constexpr std::size_t content_list_batch = 100;

/// Buffer between a frontend image and its connection, bytes.
inline constexpr std::size_t frontend_buffer_bytes = 64 << 10;
/// Of what a frontend image writes to its standard error, bytes kept for the log.
inline constexpr std::size_t frontend_complaint_bytes = 16 << 10;
/// Where a frontend image finds what it was made from: its pb.Definition.
inline constexpr const char* frontend_metadata_directory = "/run/config/buildkit/metadata";
inline constexpr const char* frontend_metadata_file = "frontend.bin";

/// Backlog of a listening socket, connections.
inline constexpr int listen_backlog = 512;
/// Probe idle TCP clients, so that one whose machine vanished is noticed. 10 s – 2 h.
inline constexpr std::chrono::seconds tcp_keepalive_idle{60};
inline constexpr std::chrono::seconds tcp_keepalive_interval{15};

}  // namespace kiln::configs::gateway
