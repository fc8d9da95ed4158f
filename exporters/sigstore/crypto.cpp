#include "exporters/sigstore/crypto.hpp"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>

#include <ctime>

namespace kiln::exporters::sigstore {
namespace {

const unsigned char* bytes_of(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

bool signed_by_hash(EVP_PKEY* key, const EVP_MD* hash, std::string_view text, std::string_view signature) {
  std::unique_ptr<EVP_MD_CTX, freed_by<EVP_MD_CTX_free>> context(EVP_MD_CTX_new());
  bool good = EVP_DigestVerifyInit(context.get(), nullptr, hash, nullptr, key) == 1 &&
              EVP_DigestVerify(context.get(), bytes_of(signature), signature.size(), bytes_of(text),
                               text.size()) == 1;
  ERR_clear_error();
  return good;
}

}  // namespace

certificate_ptr certificate_of_der(std::string_view der) {
  const auto* at = bytes_of(der);
  certificate_ptr out(d2i_X509(nullptr, &at, static_cast<long>(der.size())));
  ERR_clear_error();
  return at == bytes_of(der) + der.size() ? std::move(out) : nullptr;
}

certificate_ptr certificate_of_pem(std::string_view pem) {
  std::unique_ptr<BIO, freed_by<BIO_free>> in(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  certificate_ptr out(PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr));
  ERR_clear_error();
  return out;
}

key_ptr key_of_der(std::string_view der) {
  const auto* at = bytes_of(der);
  key_ptr out(d2i_PUBKEY(nullptr, &at, static_cast<long>(der.size())));
  ERR_clear_error();
  return out;
}

std::string sha256_bytes(std::string_view text) {
  unsigned char out[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  EVP_Digest(text.data(), text.size(), out, &size, EVP_sha256(), nullptr);
  return {reinterpret_cast<const char*>(out), size};
}

bool signed_by(EVP_PKEY* key, std::string_view text, std::string_view signature, bool longer_hashes) {
  if (EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519) return signed_by_hash(key, nullptr, text, signature);
  return signed_by_hash(key, EVP_sha256(), text, signature) ||
         (longer_hashes && (signed_by_hash(key, EVP_sha384(), text, signature) ||
                            signed_by_hash(key, EVP_sha512(), text, signature)));
}

bool valid_at(const X509* certificate, std::int64_t seconds) {
  auto at = static_cast<std::time_t>(seconds);
  return X509_cmp_time(X509_get0_notBefore(certificate), &at) < 0 &&
         X509_cmp_time(X509_get0_notAfter(certificate), &at) > 0;
}

}  // namespace kiln::exporters::sigstore
