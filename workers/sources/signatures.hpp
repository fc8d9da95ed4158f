// Checks signatures of downloads and of git's objects with the programs made for that: gpg and ssh-keygen.
// Source: BuildKit util/pgpsign, util/gitutil/{gitobject,gitsign}.
#pragma once

#include <filesystem>
#include <stop_token>
#include <string>
#include <string_view>

#include "base/result.hpp"

namespace kiln::workers {

struct signature_rules {
  std::string keys;  // armored PGP public keys, or SSH public keys, one a line
  bool reject_expired_keys = false;
};

/// A raw git commit or tag, taken apart.
struct signed_object {
  std::string payload;    // what was signed
  std::string signature;  // empty: it is not signed
};
/// Pure. Source: git's gpg-interface; "gpgsig" headers of commits, the end of a tag's message.
signed_object split_signed_object(std::string_view raw);

/// What gpg reported of a signature ("--status-fd"), checked. Weak digests, unknown key types, revoked keys
/// and bad signatures are refused; expired keys only where the rules say so. Pure.
status check_pgp_report(std::string_view report, bool reject_expired_keys);

/// Whether one of the keys made the armored detached signature of the file. `scratch` is a directory of its
/// own, removed afterwards. Errors: permission_denied says what is wrong with the signature;
/// failed_precondition when gpg is not installed.
status verify_pgp(const std::filesystem::path& file, std::string_view signature, const signature_rules& rules,
                  const std::filesystem::path& scratch, std::stop_token stop);

/// The same of a raw git object, signed with PGP or SSH.
status verify_git_object(std::string_view raw, const signature_rules& rules,
                         const std::filesystem::path& scratch, std::stop_token stop);

}  // namespace kiln::workers
