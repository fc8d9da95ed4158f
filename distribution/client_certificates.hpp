// Which of our certificates a server gets to see, of several. Thread-safe.
#pragma once

#include <string>
#include <vector>

namespace kiln::distribution {

/// A certificate, with those between it and its CA, and its key: PEM files.
struct client_certificate {
  std::string cert_file;
  std::string key_file;
};

/// Has a TLS context (OpenSSL's SSL_CTX) show the first of them that fits what the server asks for: signed by
/// one of the CAs it names, with a kind of key it knows. Where none does, what the context has already stays.
void choose_certificate(void* tls_context, std::vector<client_certificate> certificates);

}  // namespace kiln::distribution
