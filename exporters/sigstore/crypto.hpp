// OpenSSL's objects as values that free themselves, and the few operations that signatures are checked with.
// Pure.
#pragma once

#include <openssl/evp.h>
#include <openssl/x509.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace kiln::exporters::sigstore {

template <auto free_it>
struct freed_by {
  template <class T>
  void operator()(T* object) const {
    free_it(object);
  }
};

using certificate_ptr = std::unique_ptr<X509, freed_by<X509_free>>;
using key_ptr = std::unique_ptr<EVP_PKEY, freed_by<EVP_PKEY_free>>;

/// Null for what is none.
certificate_ptr certificate_of_der(std::string_view der);
certificate_ptr certificate_of_pem(std::string_view pem);
key_ptr key_of_der(std::string_view der);

/// The raw 32 bytes.
std::string sha256_bytes(std::string_view text);

/// Whether the key signed the text: by SHA-256, or as Ed25519 has it. `longer_hashes`: by those that go with
/// larger curves, too.
bool signed_by(EVP_PKEY* key, std::string_view text, std::string_view signature, bool longer_hashes = false);

/// Seconds since 1970, whether the certificate is valid then.
bool valid_at(const X509* certificate, std::int64_t seconds);

}  // namespace kiln::exporters::sigstore
