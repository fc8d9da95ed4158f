#include "configs/certificates.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <functional>
#include <memory>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

#include "base/files.hpp"

namespace kiln::configs {

namespace {

template <auto Free>
struct deleter {
  template <class T>
  void operator()(T* p) const noexcept {
    Free(p);
  }
};
using bio_ptr = std::unique_ptr<BIO, deleter<BIO_free_all>>;
using key_ptr = std::unique_ptr<EVP_PKEY, deleter<EVP_PKEY_free>>;
using x509_ptr = std::unique_ptr<X509, deleter<X509_free>>;
using store_ptr = std::unique_ptr<X509_STORE, deleter<X509_STORE_free>>;
using context_ptr = std::unique_ptr<X509_STORE_CTX, deleter<X509_STORE_CTX_free>>;
using extension_ptr = std::unique_ptr<X509_EXTENSION, deleter<X509_EXTENSION_free>>;

bio_ptr reader(std::string_view text) {
  return bio_ptr{BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))};
}

x509_ptr next_certificate(BIO* from) {
  x509_ptr out{PEM_read_bio_X509(from, nullptr, nullptr, nullptr)};
  if (!out) ERR_clear_error();
  return out;
}

/// A key with a pass phrase is not asked for one.
int no_passphrase(char*, int, int, void*) { return 0; }

key_ptr private_key(std::string_view text) {
  auto bio = reader(text);
  key_ptr out{PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr)};
  if (!out) ERR_clear_error();
  return out;
}

error openssl_error(std::string_view doing) {
  auto code = ERR_get_error();
  ERR_clear_error();
  auto* reason = code ? ERR_reason_error_string(code) : nullptr;
  return make_error(errc::internal, std::string(doing) + ": " + (reason ? reason : "OpenSSL failed"));
}

std::string time_text(const ASN1_TIME* t) {
  bio_ptr out{BIO_new(BIO_s_mem())};
  if (!out || ASN1_TIME_print(out.get(), t) != 1) return "an unreadable time";
  char* data = nullptr;
  auto size = BIO_get_mem_data(out.get(), &data);
  return {data, static_cast<std::size_t>(size)};
}

result<std::string> pem_of(const std::function<int(BIO*)>& write) {
  bio_ptr out{BIO_new(BIO_s_mem())};
  if (!out || write(out.get()) != 1) return openssl_error("writing PEM");
  char* data = nullptr;
  auto size = BIO_get_mem_data(out.get(), &data);
  return std::string(data, static_cast<std::size_t>(size));
}

result<certificate_pair> to_pem(X509* cert, EVP_PKEY* key) {
  certificate_pair out;
  KILN_TRY(out.cert, pem_of([&](BIO* b) { return PEM_write_bio_X509(b, cert); }));
  KILN_TRY(out.key, pem_of([&](BIO* b) {
             return PEM_write_bio_PKCS8PrivateKey(b, key, nullptr, nullptr, 0, nullptr, nullptr);
           }));
  return out;
}

bool add_extension(X509* cert, X509* issuer, int id, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, cert, nullptr, nullptr, 0);
  extension_ptr e{X509V3_EXT_conf_nid(nullptr, &context, id, value.c_str())};
  return e && X509_add_ext(cert, e.get(), -1) == 1;
}

/// A certificate without extensions and signature.
result<x509_ptr> draft(std::string_view name, EVP_PKEY* key, std::time_t from,
                       std::chrono::seconds validity) {
  x509_ptr cert{X509_new()};
  unsigned char serial[16];
  if (!cert || RAND_bytes(serial, sizeof serial) != 1) return openssl_error("making a certificate");
  serial[0] &= 0x7f;  // positive
  std::unique_ptr<BIGNUM, deleter<BN_free>> number{BN_bin2bn(serial, sizeof serial, nullptr)};
  auto to = from + std::max<std::time_t>(validity.count(), 0);
  if (validity.count() < 0) {
    to = from + validity.count();
    from = to + validity.count();
  }
  auto* subject = X509_get_subject_name(cert.get());
  bool good = number && X509_set_version(cert.get(), X509_VERSION_3) == 1 &&
              BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(cert.get())) &&
              ASN1_TIME_set(X509_getm_notBefore(cert.get()), from) &&
              ASN1_TIME_set(X509_getm_notAfter(cert.get()), to) &&
              X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8,
                                         reinterpret_cast<const unsigned char*>(name.data()),
                                         static_cast<int>(name.size()), -1, 0) == 1 &&
              X509_set_pubkey(cert.get(), key) == 1;
  if (!good) return openssl_error("making a certificate for " + std::string(name));
  return cert;
}

bool is_ip(const std::string& host) {
  unsigned char buffer[sizeof(in6_addr)];
  return inet_pton(AF_INET, host.c_str(), buffer) == 1 || inet_pton(AF_INET6, host.c_str(), buffer) == 1;
}

}  // namespace

result<std::string> read_pem(std::string_view what, const std::string& path) {
  auto text = read_file(path, pem_bytes_max);
  if (!text.ok() || text->empty())
    return make_error(errc::invalid_argument, std::string(what) + ": cannot read " + path);
  return text;
}

result<certificate_texts> load_certificates(const certificate_files& files, std::time_t now) {
  auto bad = [](const std::string& what, const std::string& file, const std::string& why) {
    return make_error(errc::invalid_argument, what + ": " + file + " " + why);
  };
  certificate_texts texts;
  KILN_TRY(texts.ca, read_pem("cluster ca", files.ca));
  KILN_TRY(texts.cert, read_pem("cluster certificate", files.cert));
  KILN_TRY(texts.key, read_pem("cluster key", files.key));

  store_ptr trusted{X509_STORE_new()};
  auto ca_text = reader(texts.ca);
  int authorities = 0;
  while (auto ca = next_certificate(ca_text.get())) {
    ++authorities;
    X509_STORE_add_cert(trusted.get(), ca.get());
  }
  if (authorities == 0) return bad("cluster ca", files.ca, "has no PEM certificate");

  auto cert_text = reader(texts.cert);
  auto cert = next_certificate(cert_text.get());
  if (!cert) return bad("cluster certificate", files.cert, "has no PEM certificate");
  std::unique_ptr<STACK_OF(X509), deleter<[](STACK_OF(X509) * s) { sk_X509_pop_free(s, X509_free); }>> chain{
      sk_X509_new_null()};
  while (auto more = next_certificate(cert_text.get())) sk_X509_push(chain.get(), more.release());

  auto key = private_key(texts.key);
  if (!key) return bad("cluster key", files.key, "has no PEM key without a pass phrase");
  if (X509_check_private_key(cert.get(), key.get()) != 1) {
    ERR_clear_error();
    return bad("cluster key", files.key, "is not the key of " + files.cert);
  }

  context_ptr context{X509_STORE_CTX_new()};
  if (!context || X509_STORE_CTX_init(context.get(), trusted.get(), cert.get(), chain.get()) != 1)
    return openssl_error("checking " + files.cert);
  X509_STORE_CTX_set_time(context.get(), 0, now);
  for (int purpose : {X509_PURPOSE_SSL_CLIENT, X509_PURPOSE_SSL_SERVER}) {
    if (X509_STORE_CTX_init(context.get(), trusted.get(), cert.get(), chain.get()) != 1)
      return openssl_error("checking " + files.cert);
    X509_STORE_CTX_set_time(context.get(), 0, now);
    X509_STORE_CTX_set_purpose(context.get(), purpose);
    if (X509_verify_cert(context.get()) == 1) continue;
    int why = X509_STORE_CTX_get_error(context.get());
    auto* at = X509_STORE_CTX_get_current_cert(context.get());
    auto about = at && at != cert.get() ? " (the CA's certificate)" : std::string();
    ERR_clear_error();
    switch (why) {
      case X509_V_ERR_CERT_HAS_EXPIRED:
        return bad("cluster certificate", files.cert,
                   "expired on " + time_text(X509_get0_notAfter(at ? at : cert.get())) + about);
      case X509_V_ERR_CERT_NOT_YET_VALID:
        return bad("cluster certificate", files.cert,
                   "is not valid before " + time_text(X509_get0_notBefore(at ? at : cert.get())) + about);
      case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
      case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
      case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
      case X509_V_ERR_CERT_SIGNATURE_FAILURE:
      case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
      case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        return bad("cluster certificate", files.cert, "is not signed by the CA in " + files.ca);
      case X509_V_ERR_INVALID_PURPOSE:
        return bad("cluster certificate", files.cert, "must be good for both clients and servers");
      default: return bad("cluster certificate", files.cert, X509_verify_cert_error_string(why));
    }
  }
  return texts;
}

result<certificate_pair> make_authority(std::string_view name, std::time_t from,
                                        std::chrono::seconds validity) {
  key_ptr key{EVP_EC_gen("P-256")};
  if (!key) return openssl_error("making a key");
  KILN_TRY(auto cert, draft(name, key.get(), from, validity));
  bool good = X509_set_issuer_name(cert.get(), X509_get_subject_name(cert.get())) == 1 &&
              add_extension(cert.get(), cert.get(), NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
              add_extension(cert.get(), cert.get(), NID_key_usage, "critical,keyCertSign,cRLSign") &&
              add_extension(cert.get(), cert.get(), NID_subject_key_identifier, "hash") &&
              X509_sign(cert.get(), key.get(), EVP_sha256()) > 0;
  if (!good) return openssl_error("making the CA's certificate");
  return to_pem(cert.get(), key.get());
}

result<certificate_pair> make_certificate(const certificate_pair& authority, std::string_view name,
                                          const std::vector<std::string>& hosts, std::time_t from,
                                          std::chrono::seconds validity) {
  auto ca_text = reader(authority.cert);
  auto ca = next_certificate(ca_text.get());
  auto ca_key = private_key(authority.key);
  if (!ca || !ca_key) return make_error(errc::invalid_argument, "the CA has no PEM certificate and key");
  if (X509_check_private_key(ca.get(), ca_key.get()) != 1) {
    ERR_clear_error();
    return make_error(errc::invalid_argument, "the CA's key is not that of its certificate");
  }
  key_ptr key{EVP_EC_gen("P-256")};
  if (!key) return openssl_error("making a key");
  KILN_TRY(auto cert, draft(name, key.get(), from, validity));
  std::string names = "DNS:" + std::string(name);
  for (const auto& host : hosts) names += (is_ip(host) ? ",IP:" : ",DNS:") + host;
  bool good = X509_set_issuer_name(cert.get(), X509_get_subject_name(ca.get())) == 1 &&
              add_extension(cert.get(), ca.get(), NID_basic_constraints, "critical,CA:FALSE") &&
              add_extension(cert.get(), ca.get(), NID_key_usage, "critical,digitalSignature") &&
              add_extension(cert.get(), ca.get(), NID_ext_key_usage, "serverAuth,clientAuth") &&
              add_extension(cert.get(), ca.get(), NID_subject_alt_name, names) &&
              add_extension(cert.get(), ca.get(), NID_subject_key_identifier, "hash") &&
              add_extension(cert.get(), ca.get(), NID_authority_key_identifier, "keyid") &&
              X509_sign(cert.get(), ca_key.get(), EVP_sha256()) > 0;
  if (!good) return openssl_error("making the certificate of " + std::string(name));
  return to_pem(cert.get(), key.get());
}

}  // namespace kiln::configs
