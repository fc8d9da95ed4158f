#include "node/tls_context.hpp"

#include <openssl/err.h>

namespace kiln::node {

certificate_identity identity_of(X509* certificate) {
  certificate_identity out;
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  if (X509_digest(certificate, EVP_sha256(), digest, &size) == 1)
    out.fingerprint.assign(reinterpret_cast<const char*>(digest), size);
  std::unique_ptr<GENERAL_NAMES, ssl_free> names{
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr))};
  for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    auto* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type != GEN_DNS) continue;
    out.names.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName)),
                           static_cast<std::size_t>(ASN1_STRING_length(name->d.dNSName)));
  }
  ERR_clear_error();
  return out;
}

result<context_ptr> make_context(const configs::certificate_texts& texts) {
  context_ptr context{SSL_CTX_new(TLS_method())};
  auto bio = [](const std::string& text) {
    return bio_ptr{BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))};
  };
  auto next = [](BIO* b) { return x509_ptr{PEM_read_bio_X509(b, nullptr, nullptr, nullptr)}; };
  auto* c = context.get();
  bool good = c && SSL_CTX_set_min_proto_version(c, TLS1_2_VERSION) == 1;
  auto ca = bio(texts.ca);
  for (auto cert = next(ca.get()); good && cert; cert = next(ca.get()))
    good = X509_STORE_add_cert(SSL_CTX_get_cert_store(c), cert.get()) == 1;
  auto chain = bio(texts.cert);
  auto leaf = next(chain.get());
  good = good && leaf && SSL_CTX_use_certificate(c, leaf.get()) == 1;
  for (auto more = next(chain.get()); good && more; more = next(chain.get()))
    good = SSL_CTX_add1_chain_cert(c, more.get()) == 1;
  auto key_text = bio(texts.key);
  std::unique_ptr<EVP_PKEY, ssl_free> key{PEM_read_bio_PrivateKey(key_text.get(), nullptr, nullptr, nullptr)};
  good = good && key && SSL_CTX_use_PrivateKey(c, key.get()) == 1;
  ERR_clear_error();
  if (!good) return make_error(errc::invalid_argument, "TLS cannot use the cluster's certificates");
  SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_options(c, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_mode(c, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  return context;
}

std::string ssl_reason(const SSL* ssl) {
  auto code = ERR_get_error();
  ERR_clear_error();
  if (long verified = SSL_get_verify_result(ssl); verified != X509_V_OK)
    return std::string("its certificate is refused: ") + X509_verify_cert_error_string(verified);
  auto* reason = code ? ERR_reason_error_string(code) : nullptr;
  if (!reason) return "it closed the connection";
  std::string text = reason;
  // An alert is what the other side says of us.
  if (text.find("alert") != std::string::npos) return "it refuses this node's certificate: " + text;
  return "TLS: " + text;
}

result<certificate_identity> identity_of(const std::string& certificate) {
  bio_ptr text{BIO_new_mem_buf(certificate.data(), static_cast<int>(certificate.size()))};
  x509_ptr cert{PEM_read_bio_X509(text.get(), nullptr, nullptr, nullptr)};
  ERR_clear_error();
  if (!cert) return make_error(errc::invalid_argument, "there is no PEM certificate");
  return identity_of(cert.get());
}

}  // namespace kiln::node
