// Whether an artifact was signed by whom a certificate of Sigstore names: the certificate was issued, and
// logged, by authorities that we trust, the signature was made while it was good, and is in a log that
// everybody can look at. Pure but for OpenSSL. Source: Sigstore client specification; sigstore-go, verify.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "exporters/sigstore/bundle.hpp"
#include "exporters/sigstore/trusted_root.hpp"

namespace kiln::exporters::sigstore {

struct signer {
  /// What the certificate says of its owner: "certificateIssuer", "subjectAlternativeName", "issuer",
  /// "buildSignerURI", …
  std::map<std::string, std::string> fields;
  int times = 0;      // authorities and logs that told when it was signed
  int log_times = 0;  // the logs among them
};

/// permission_denied tells which of it does not hold.
result<signer> verify(std::string_view artifact, const bundle& b, const trusted_root& trusted);

}  // namespace kiln::exporters::sigstore
