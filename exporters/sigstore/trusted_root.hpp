// Whom signatures of Sigstore are checked against: the keys of its logs, and its authorities for certificates
// and for times (trusted_root.json, as its own clients keep it). Pure. Source: sigstore/protobuf-specs,
// sigstore_trustroot.proto.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "exporters/sigstore/crypto.hpp"

namespace kiln::exporters::sigstore {

/// Seconds since 1970, both included.
struct validity {
  std::int64_t begin_s = std::numeric_limits<std::int64_t>::min();
  std::int64_t end_s = std::numeric_limits<std::int64_t>::max();
  bool covers(std::int64_t seconds) const { return begin_s <= seconds && seconds <= end_s; }
};

/// A transparency log of signatures or of certificates.
struct trusted_log {
  std::string id;  // raw
  std::string url;
  key_ptr key;
  validity when;
};

struct trusted_authority {
  std::string url;
  std::vector<certificate_ptr> chain;  // the root comes last
  validity when;
};

struct trusted_root {
  std::vector<trusted_log> signature_logs, certificate_logs;
  std::vector<trusted_authority> certificate_authorities, time_authorities;
};

/// invalid_argument tells what is wrong. Keys of kinds that nobody here can check are left out.
result<trusted_root> parse_trusted_root(std::string_view json);

}  // namespace kiln::exporters::sigstore
