// Bounds of the proxy that steps reach the network through (workers/proxy). Plain constants.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace kiln::configs::proxy {

/// Of one step at a time, each with a thread; one more ends the one that has been idle longest. 8 – 1,000.
inline constexpr std::size_t connections_max = 256;
/// Bytes of a request's line and headers, and of the headers that follow a body in chunks. 4 KiB – 1 MiB.
inline constexpr std::size_t head_bytes_max = 64 << 10;
inline constexpr std::size_t headers_max = 256;  // of a request
inline constexpr std::size_t chunk_line_bytes_max = 4'096;
inline constexpr std::size_t buffer_bytes = 64 << 10;  // of a connection, each way

/// Before trying again where a connection could not be taken for want of descriptors or memory.
inline constexpr std::chrono::milliseconds accept_pause{100};

/// For a request's head once it has begun, and for the client's part of a TLS handshake.
inline constexpr std::chrono::seconds head_time{30};
/// Without a request.
inline constexpr std::chrono::minutes idle_time{5};
/// For a client to read a last answer while it still sends what nobody wants, and how much of that.
inline constexpr std::chrono::seconds linger_time{2};
inline constexpr std::size_t linger_bytes_max = 16 << 20;
inline constexpr std::chrono::seconds connect_time{30};
/// Without a byte from the server.
inline constexpr std::chrono::minutes stall_time{10};

/// What is remembered of one step; what comes after that is told as one gap.
inline constexpr std::size_t requests_max = 10'000;
inline constexpr std::size_t recorded_bytes_max = 4 << 20;  // of URLs and words

inline constexpr std::chrono::hours ca_life{24 * 365 * 10};
inline constexpr std::chrono::hours certificate_life{24};
inline constexpr std::chrono::hours certificate_renewal{1};  // before its end
inline constexpr std::chrono::hours clock_skew{1};           // of what looks at a certificate
inline constexpr std::size_t certificates_max = 1'024;       // kept
inline constexpr int key_bits = 2'048;                       // RSA, which every client knows

inline constexpr std::size_t trust_bundle_bytes_max = 10 << 20;

}  // namespace kiln::configs::proxy
