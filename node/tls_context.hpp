// OpenSSL as the connections between nodes use it: its objects owned, one context for both ends, certificates
// by name. Knows nothing of sockets.
#pragma once

#include <memory>
#include <string>

#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/result.hpp"
#include "configs/certificates.hpp"
#include "node/relay_gate.hpp"

namespace kiln::node {

struct ssl_free {
  void operator()(SSL* s) const noexcept { SSL_free(s); }
  void operator()(SSL_CTX* c) const noexcept { SSL_CTX_free(c); }
  void operator()(BIO* b) const noexcept { BIO_free_all(b); }
  void operator()(X509* c) const noexcept { X509_free(c); }
  void operator()(EVP_PKEY* k) const noexcept { EVP_PKEY_free(k); }
  void operator()(GENERAL_NAMES* n) const noexcept { GENERAL_NAMES_free(n); }
};
using ssl_ptr = std::unique_ptr<SSL, ssl_free>;
using context_ptr = std::unique_ptr<SSL_CTX, ssl_free>;
using bio_ptr = std::unique_ptr<BIO, ssl_free>;
using x509_ptr = std::unique_ptr<X509, ssl_free>;

/// The DNS names and the fingerprint of a certificate.
certificate_identity identity_of(X509* certificate);
/// The same of a certificate in PEM; invalid_argument when there is none.
result<certificate_identity> identity_of(const std::string& certificate);

/// Certificates of both ends are wanted and checked, whoever dials. invalid_argument when these cannot be
/// used.
result<context_ptr> make_context(const configs::certificate_texts& texts);

/// Why the last call on a connection failed, as a sentence about the other side.
std::string ssl_reason(const SSL* ssl);

}  // namespace kiln::node
