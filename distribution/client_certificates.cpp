#include "distribution/client_certificates.hpp"

#include <cstdio>
#include <memory>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

namespace kiln::distribution {
namespace {

using file_ptr = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;
using x509_ptr = std::unique_ptr<X509, decltype(&X509_free)>;
using key_ptr = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

void drop_chain(STACK_OF(X509) * chain) { sk_X509_pop_free(chain, X509_free); }
using chain_ptr = std::unique_ptr<STACK_OF(X509), decltype(&drop_chain)>;

/// Whether the server would take it.
bool fits(SSL* ssl, const client_certificate& c) {
  file_ptr certs(std::fopen(c.cert_file.c_str(), "re"), &std::fclose);
  file_ptr keys(std::fopen(c.key_file.c_str(), "re"), &std::fclose);
  if (!certs || !keys) return false;
  x509_ptr own(PEM_read_X509(certs.get(), nullptr, nullptr, nullptr), &X509_free);
  key_ptr key(PEM_read_PrivateKey(keys.get(), nullptr, nullptr, nullptr), &EVP_PKEY_free);
  chain_ptr chain(sk_X509_new_null(), &drop_chain);
  if (!own || !key || !chain) return false;
  while (auto* next = PEM_read_X509(certs.get(), nullptr, nullptr, nullptr)) sk_X509_push(chain.get(), next);
  constexpr int wanted = CERT_PKEY_VALID | CERT_PKEY_ISSUER_NAME;
  return (SSL_check_chain(ssl, own.get(), key.get(), chain.get()) & wanted) == wanted;
}

using certificate_list = std::vector<client_certificate>;

/// Called when the server has asked; 1 goes on with the handshake.
int on_request(SSL* ssl, void* certificates) {
  for (const auto& c : *static_cast<const certificate_list*>(certificates)) {
    bool good = fits(ssl, c);
    ERR_clear_error();  // the end of a PEM file is one
    if (!good) continue;
    bool taken = SSL_use_certificate_chain_file(ssl, c.cert_file.c_str()) == 1 &&
                 SSL_use_PrivateKey_file(ssl, c.key_file.c_str(), SSL_FILETYPE_PEM) == 1;
    return taken ? 1 : 0;
  }
  return 1;
}

/// Where a context keeps its own list: connections that are kept outlive the request that opened them.
int list_index() {
  static const int index = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr,
                                                    [](void*, void* list, CRYPTO_EX_DATA*, int, long, void*) {
                                                      delete static_cast<certificate_list*>(list);
                                                    });
  return index;
}

}  // namespace

void choose_certificate(void* tls_context, std::vector<client_certificate> certificates) {
  auto* context = static_cast<SSL_CTX*>(tls_context);
  auto list = std::make_unique<certificate_list>(std::move(certificates));
  if (SSL_CTX_set_ex_data(context, list_index(), list.get()) != 1) return;
  SSL_CTX_set_cert_cb(context, &on_request, list.release());
}

}  // namespace kiln::distribution
