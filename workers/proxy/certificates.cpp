#include "workers/proxy/certificates.hpp"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include "configs/proxy.hpp"

namespace kiln::workers::proxy {

namespace {

namespace cfg = configs::proxy;

error failure(const std::string& what) {
  char why[256] = "";
  ERR_error_string_n(ERR_get_error(), why, sizeof why);
  ERR_clear_error();
  return make_error(errc::internal, "the proxy's certificates: " + what + ": " + why);
}

result<key_ptr> make_key() {
  key_ptr key(EVP_RSA_gen(static_cast<unsigned>(cfg::key_bits)));
  if (!key) return failure("no key");
  return key;
}

/// Where a name may be no longer than that a certificate goes by its alternative names alone.
constexpr std::size_t common_name_max = 64;

bool set_name(X509_NAME* name, std::string_view text) {
  if (text.size() > common_name_max) text = text.substr(0, common_name_max);
  return X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                                    reinterpret_cast<const unsigned char*>(text.data()),
                                    static_cast<int>(text.size()), -1, 0) == 1;
}

bool set_serial(X509* certificate) {
  unsigned char bytes[16];
  if (RAND_bytes(bytes, sizeof bytes) != 1) return false;
  bytes[0] = static_cast<unsigned char>((bytes[0] & 0x7f) | 0x40);  // positive, and never shorter
  std::unique_ptr<BIGNUM, decltype(&BN_free)> number(BN_bin2bn(bytes, sizeof bytes, nullptr), BN_free);
  return number && BN_to_ASN1_INTEGER(number.get(), X509_get_serialNumber(certificate)) != nullptr;
}

bool set_validity(X509* certificate, std::chrono::system_clock::time_point now, std::chrono::seconds life) {
  auto at = std::chrono::system_clock::to_time_t(now);
  auto skew = std::chrono::seconds(cfg::clock_skew).count();
  return ASN1_TIME_adj(X509_getm_notBefore(certificate), at, 0, -skew) != nullptr &&
         ASN1_TIME_adj(X509_getm_notAfter(certificate), at, static_cast<int>(life / std::chrono::hours(24)),
                       static_cast<long>((life % std::chrono::hours(24)).count())) != nullptr;
}

bool add_extension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  std::unique_ptr<X509_EXTENSION, decltype(&X509_EXTENSION_free)> made(
      X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()), X509_EXTENSION_free);
  return made && X509_add_ext(certificate, made.get(), -1) == 1;
}

/// Not as text: a host could have commas in it.
bool add_host(X509* certificate, const std::string& host) {
  std::unique_ptr<GENERAL_NAMES, decltype(&GENERAL_NAMES_free)> names(sk_GENERAL_NAME_new_null(),
                                                                      GENERAL_NAMES_free);
  GENERAL_NAME* name = GENERAL_NAME_new();
  if (!names || !name || sk_GENERAL_NAME_push(names.get(), name) == 0) return false;
  unsigned char address[16];
  int size = 0;
  if (::inet_pton(AF_INET, host.c_str(), address) == 1) size = 4;
  else if (::inet_pton(AF_INET6, host.c_str(), address) == 1) size = 16;
  auto* text = size > 0 ? ASN1_OCTET_STRING_new() : ASN1_IA5STRING_new();
  if (!text) return false;
  GENERAL_NAME_set0_value(name, size > 0 ? GEN_IPADD : GEN_DNS, text);
  bool set = size > 0 ? ASN1_STRING_set(text, address, size) == 1
                      : ASN1_STRING_set(text, host.data(), static_cast<int>(host.size())) == 1;
  return set && X509_add1_ext_i2d(certificate, NID_subject_alt_name, names.get(), 0, 0) == 1;
}

std::string without_brackets(const std::string& host) {
  bool has = host.size() > 2 && host.front() == '[' && host.back() == ']';
  return has ? host.substr(1, host.size() - 2) : host;
}

}  // namespace

result<std::shared_ptr<certificates>> certificates::make(clock now) {
  std::shared_ptr<certificates> out(new certificates(std::move(now)));
  KILN_CHECK(out->begin());
  return out;
}

status certificates::begin() {
  KILN_TRY(ca_key_, make_key());
  KILN_TRY(host_key_, make_key());
  ca_.reset(X509_new());
  auto* c = ca_.get();
  bool good = c && X509_set_version(c, X509_VERSION_3) == 1 && set_serial(c) &&
              set_name(X509_get_subject_name(c), "Kiln build proxy") &&
              X509_set_issuer_name(c, X509_get_subject_name(c)) == 1 &&
              set_validity(c, now_(), cfg::ca_life) && X509_set_pubkey(c, ca_key_.get()) == 1 &&
              add_extension(c, c, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") &&
              add_extension(c, c, NID_key_usage, "critical,keyCertSign,cRLSign") &&
              add_extension(c, c, NID_subject_key_identifier, "hash") &&
              X509_sign(c, ca_key_.get(), EVP_sha256()) > 0;
  if (!good) return failure("no authority");
  std::unique_ptr<BIO, decltype(&BIO_free_all)> text(BIO_new(BIO_s_mem()), BIO_free_all);
  char* bytes = nullptr;
  if (!text || PEM_write_bio_X509(text.get(), c) != 1) return failure("no text of it");
  auto size = BIO_get_mem_data(text.get(), &bytes);
  ca_pem_.assign(bytes, static_cast<std::size_t>(size));
  return {};
}

result<x509_ptr> certificates::issue(const std::string& host) const {
  x509_ptr made(X509_new());
  auto* c = made.get();
  bool good = c && X509_set_version(c, X509_VERSION_3) == 1 && set_serial(c) &&
              set_name(X509_get_subject_name(c), host) &&
              X509_set_issuer_name(c, X509_get_subject_name(ca_.get())) == 1 &&
              set_validity(c, now_(), cfg::certificate_life) && X509_set_pubkey(c, host_key_.get()) == 1 &&
              add_extension(c, ca_.get(), NID_basic_constraints, "critical,CA:FALSE") &&
              add_extension(c, ca_.get(), NID_key_usage, "critical,digitalSignature,keyEncipherment") &&
              add_extension(c, ca_.get(), NID_ext_key_usage, "serverAuth") &&
              add_extension(c, ca_.get(), NID_subject_key_identifier, "hash") &&
              add_extension(c, ca_.get(), NID_authority_key_identifier, "keyid:always") &&
              add_host(c, host) && X509_sign(c, ca_key_.get(), EVP_sha256()) > 0;
  if (!good) return failure("none for " + host);
  return made;
}

result<context_ptr> certificates::server_for(const std::string& asked) {
  auto host = without_brackets(asked);
  std::lock_guard lock(mutex_);
  auto now = now_();
  if (auto found = by_host_.find(host); found != by_host_.end()) {
    auto kept = found->second;
    if (now < kept->expires) {
      entries_.splice(entries_.begin(), entries_, kept);
      return kept->context;
    }
    entries_.erase(kept);
    by_host_.erase(found);
  }
  KILN_TRY(auto certificate, issue(host));
  context_ptr context(SSL_CTX_new(TLS_server_method()), ssl_free());
  auto* c = context.get();
  bool good = c && SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION) == 1 &&
              SSL_CTX_use_certificate(c, certificate.get()) == 1 &&
              SSL_CTX_use_PrivateKey(c, host_key_.get()) == 1;
  if (!good) return failure("no use of the one for " + host);
  SSL_CTX_set_options(c, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_IGNORE_UNEXPECTED_EOF);
  SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  // Of what a client offers only what is spoken here: RFC 7301.
  SSL_CTX_set_alpn_select_cb(
      c,
      [](SSL*, const unsigned char** out, unsigned char* size, const unsigned char* in, unsigned count,
         void*) {
        static constexpr unsigned char ours[] = "\x08http/1.1";
        unsigned char* chosen = nullptr;
        if (SSL_select_next_proto(&chosen, size, ours, sizeof ours - 1, in, count) != OPENSSL_NPN_NEGOTIATED)
          return SSL_TLSEXT_ERR_NOACK;
        *out = chosen;
        return SSL_TLSEXT_ERR_OK;
      },
      nullptr);
  entries_.push_front({host, now + cfg::certificate_life - cfg::certificate_renewal, context});
  by_host_[host] = entries_.begin();
  if (entries_.size() > cfg::certificates_max) {
    by_host_.erase(entries_.back().host);
    entries_.pop_back();
  }
  return context;
}

}  // namespace kiln::workers::proxy
