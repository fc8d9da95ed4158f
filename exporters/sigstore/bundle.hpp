// A Sigstore bundle: a signature with all that it takes to check it. Pure. Source: sigstore/protobuf-specs,
// sigstore_bundle.proto (versions 0.1 to 0.3).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace kiln::exporters::sigstore {

/// Why a log's tree has the entry: the hashes beside its way up to the root, and the log's word for the root.
struct inclusion_proof {
  std::int64_t index = 0, tree_size = 0;
  std::string root;
  std::vector<std::string> hashes;
  std::string checkpoint;  // a signed note
};

/// An entry of a transparency log.
struct log_entry {
  std::string log_id;
  std::int64_t index = 0;
  std::int64_t integrated_s = 0;  // 0: the log does not say
  std::string body;               // canonical JSON
  std::string promise;            // the log's signature on all of these; empty: none
  std::optional<inclusion_proof> proof;
};

/// What is signed when it is no plain artifact: a statement that names it. Source: DSSE.
struct envelope {
  std::string type, payload;
};

struct bundle {
  std::string certificate;  // DER
  std::vector<std::string> intermediates;
  std::vector<log_entry> entries;
  std::vector<std::string> timestamps;  // RFC 3161 responses
  std::string signature;
  std::optional<std::string> message_sha256;  // what the bundle says is signed
  std::optional<envelope> statement;
};

/// What of an envelope is signed. Source: DSSE, PAE.
std::string pre_authentication(const envelope& e);

/// All bytes raw. invalid_argument tells what is wrong.
result<bundle> parse_bundle(std::string_view json);

}  // namespace kiln::exporters::sigstore
