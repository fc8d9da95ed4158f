// Entries of the log of signatures: that the log has them, when it took them, and that they are of this
// signature. Pure but for OpenSSL. Source: RFC 9162, 2.1.3; C2SP signed-note and tlog-checkpoint; rekor,
// pkg/types.
#pragma once

#include <cstdint>
#include <optional>

#include "exporters/sigstore/bundle.hpp"
#include "exporters/sigstore/trusted_root.hpp"

namespace kiln::exporters::sigstore {

/// Whether the log, of those trusted, vouches for the entry; null: none of them does.
const trusted_log* log_of(const log_entry& entry, const trusted_root& trusted);

/// permission_denied when the entry is not proven to be in that log.
status check_inclusion(const log_entry& entry, const trusted_log& log);

/// permission_denied when the entry is of another signature, certificate or artifact (its SHA-256 in hex).
status check_subject(const log_entry& entry, const bundle& b, const std::string& artifact_sha256);

}  // namespace kiln::exporters::sigstore
