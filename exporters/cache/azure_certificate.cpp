// Claims signed with an application's certificate (exporters/cache/azure_tokens.hpp).
#include <openssl/pem.h>
#include <openssl/pkcs12.h>
#include <openssl/sha.h>
#include <openssl/x509.h>

#include <memory>
#include <vector>

#include "base/base64.hpp"
#include "base/digest.hpp"
#include "base/files.hpp"
#include "base/json_text.hpp"
#include "configs/remote_cache.hpp"
#include "exporters/cache/azure_tokens.hpp"
#include "exporters/sigstore/crypto.hpp"

namespace kiln::exporters {
namespace {

using sigstore::certificate_ptr;
using sigstore::freed_by;
using sigstore::key_ptr;
using bio_ptr = std::unique_ptr<BIO, freed_by<BIO_free_all>>;
using pkcs12_ptr = std::unique_ptr<PKCS12, freed_by<PKCS12_free>>;
using digest_context_ptr = std::unique_ptr<EVP_MD_CTX, freed_by<EVP_MD_CTX_free>>;

struct certificate_and_key {
  key_ptr key;
  std::vector<certificate_ptr> chain;  // that of the key first
};

bio_ptr reading(const std::string& text) {
  return bio_ptr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

void read_pem(const std::string& text, const std::string& password, certificate_and_key& out) {
  auto in = reading(text);
  out.key = key_ptr(PEM_read_bio_PrivateKey(in.get(), nullptr, nullptr, const_cast<char*>(password.c_str())));
  in = reading(text);
  while (auto* certificate = PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr))
    out.chain.emplace_back(certificate);
}

void read_pkcs12(const std::string& text, const std::string& password, certificate_and_key& out) {
  auto in = reading(text);
  pkcs12_ptr bag(d2i_PKCS12_bio(in.get(), nullptr));
  EVP_PKEY* key = nullptr;
  X509* certificate = nullptr;
  if (!bag || PKCS12_parse(bag.get(), password.c_str(), &key, &certificate, nullptr) != 1) return;
  out.key.reset(key);
  if (certificate) out.chain.emplace_back(certificate);
}

std::string der_of(X509* certificate) {
  unsigned char* bytes = nullptr;
  int size = i2d_X509(certificate, &bytes);
  if (size <= 0) return {};
  std::string out(reinterpret_cast<char*>(bytes), static_cast<std::size_t>(size));
  OPENSSL_free(bytes);
  return out;
}

/// As JWTs have it: the other alphabet, no padding.
std::string base64_url(std::string_view bytes) {
  auto out = base64_encode(bytes);
  while (out.ends_with('=')) out.pop_back();
  for (char& c : out) c = c == '+' ? '-' : c == '/' ? '_' : c;
  return out;
}

std::string signature(EVP_PKEY* key, const std::string& text) {
  digest_context_ptr context(EVP_MD_CTX_new());
  std::size_t size = 0;
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  if (EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key) != 1 ||
      EVP_DigestSign(context.get(), nullptr, &size, bytes, text.size()) != 1)
    return {};
  std::string out(size, '\0');
  if (EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(out.data()), &size, bytes,
                     text.size()) != 1)
    return {};
  out.resize(size);
  return out;
}

}  // namespace

result<std::string> certificate_assertion(const std::string& file, const std::string& password,
                                          const std::string& client, const std::string& address, bool chain,
                                          std::int64_t now_s) {
  auto who = "azure: AZURE_CLIENT_CERTIFICATE_PATH " + file;
  auto text = read_file(file, configs::azure_certificate_size);
  if (!text.ok()) return std::move(text).error().with_context(who);
  certificate_and_key have;
  if (text->find("-----BEGIN") != text->npos) read_pem(*text, password, have);
  else read_pkcs12(*text, password, have);
  if (!have.key || have.chain.empty() || EVP_PKEY_get_base_id(have.key.get()) != EVP_PKEY_RSA)
    return make_error(errc::unauthenticated,
                      who + " has no RSA key with its certificate, or another password");
  // The certificate may stand behind those that vouch for it.
  for (auto& certificate : have.chain)
    if (X509_check_private_key(certificate.get(), have.key.get()) == 1) {
      std::swap(certificate, have.chain.front());
      break;
    }
  if (X509_check_private_key(have.chain.front().get(), have.key.get()) != 1)
    return make_error(errc::unauthenticated, who + ": the key is not the certificate's");

  auto der = der_of(have.chain.front().get());
  unsigned char thumbprint[SHA_DIGEST_LENGTH];
  SHA1(reinterpret_cast<const unsigned char*>(der.data()), der.size(), thumbprint);
  nlohmann::json head{{"alg", "RS256"},
                      {"typ", "JWT"},
                      {"x5t", base64_url({reinterpret_cast<const char*>(thumbprint), sizeof thumbprint})}};
  if (chain)
    for (const auto& certificate : have.chain)
      head["x5c"].push_back(base64_encode(der_of(certificate.get())));
  nlohmann::json claims{{"aud", address},    {"iss", client},
                        {"sub", client},     {"jti", new_id()},
                        {"nbf", now_s - 60}, {"exp", now_s + configs::azure_claim_life.count()}};
  auto signed_part = base64_url(json_text(head)) + "." + base64_url(json_text(claims));
  auto sealed = signature(have.key.get(), signed_part);
  if (sealed.empty()) return make_error(errc::internal, who + ": the key does not sign");
  return signed_part + "." + base64_url(sealed);
}

}  // namespace kiln::exporters
