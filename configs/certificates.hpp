// Certificates of a cluster's nodes: what must be true before they are used, and how they are made. Keys are
// elliptic (P-256); a certificate is good for both ends of a connection, and its names are the node's.
// Thread-safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <ctime>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace kiln::configs {

inline constexpr std::int64_t pem_bytes_max = 16 << 20;

/// A file of certificates or keys; invalid_argument "<what>: cannot read <path>", also when it is empty.
result<std::string> read_pem(std::string_view what, const std::string& path);

struct certificate_files {
  std::string ca;
  std::string cert;
  std::string key;
};

/// The texts of the files, found good: readable, the key is the certificate's, the certificate is signed by
/// the CA and valid at `now`. Errors name the file and what is wrong with it.
struct certificate_texts {
  std::string ca;
  std::string cert;
  std::string key;
};
result<certificate_texts> load_certificates(const certificate_files& files, std::time_t now);

/// A certificate and its key, PEM.
struct certificate_pair {
  std::string cert;
  std::string key;
};

/// Valid from `from` on; a negative `validity` makes one that has expired (for tests).
result<certificate_pair> make_authority(std::string_view name, std::time_t from,
                                        std::chrono::seconds validity);
/// Signed by `authority`; its alternative names are `name` and `hosts` (DNS names and IP addresses).
result<certificate_pair> make_certificate(const certificate_pair& authority, std::string_view name,
                                          const std::vector<std::string>& hosts, std::time_t from,
                                          std::chrono::seconds validity);

}  // namespace kiln::configs
