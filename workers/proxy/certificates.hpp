// The proxy's own certificate authority, made anew by each daemon and known to nobody but the steps it runs,
// and the certificates by which it stands for the hosts they ask. Thread-safe.
#pragma once

#include <chrono>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include <openssl/ssl.h>

#include "base/result.hpp"

namespace kiln::workers::proxy {

/// Both ends of OpenSSL's objects.
struct ssl_free {
  void operator()(SSL* s) const noexcept { SSL_free(s); }
  void operator()(SSL_CTX* c) const noexcept { SSL_CTX_free(c); }
  void operator()(X509* c) const noexcept { X509_free(c); }
  void operator()(EVP_PKEY* k) const noexcept { EVP_PKEY_free(k); }
};
using ssl_ptr = std::unique_ptr<SSL, ssl_free>;
using x509_ptr = std::unique_ptr<X509, ssl_free>;
using key_ptr = std::unique_ptr<EVP_PKEY, ssl_free>;
using context_ptr = std::shared_ptr<SSL_CTX>;

class certificates {
 public:
  using clock = std::function<std::chrono::system_clock::time_point()>;
  /// Makes the keys, which takes a while. `now` is for tests.
  static result<std::shared_ptr<certificates>> make(clock now = [] {
    return std::chrono::system_clock::now();
  });

  /// What steps are to trust, PEM.
  const std::string& ca() const { return ca_pem_; }
  /// A server's side of TLS as that host: a name, or an address (IPv6 in brackets or not). Kept until it is
  /// about to expire, or many others have been asked for since.
  result<context_ptr> server_for(const std::string& host);

 private:
  struct entry {
    std::string host;
    std::chrono::system_clock::time_point expires;
    context_ptr context;
  };
  explicit certificates(clock now) : now_(std::move(now)) {}
  status begin();
  result<x509_ptr> issue(const std::string& host) const;

  clock now_;
  key_ptr ca_key_, host_key_;  // one for all hosts: it is the same server
  x509_ptr ca_;
  std::string ca_pem_;
  std::mutex mutex_;
  std::list<entry> entries_;  // the last used first
  std::map<std::string, std::list<entry>::iterator> by_host_;
};

}  // namespace kiln::workers::proxy
