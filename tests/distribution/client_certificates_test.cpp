#include <catch2/catch.hpp>

#include <ctime>
#include <fstream>
#include <memory>

#include <openssl/ssl.h>

#include "configs/certificates.hpp"
#include "distribution/hosts.hpp"
#include "distribution/transport.hpp"
#include "tests/support/http_server.hpp"
#include "tests/support/temp_dir.hpp"

using namespace kiln;
using namespace kiln::distribution;

namespace {

/// Lets in whom one CA has signed; answers with the name in the certificate. One connection a request.
class strict_server {
 public:
  strict_server(const std::string& ca, const std::string& cert, const std::string& key)
      : context_(SSL_CTX_new(TLS_server_method()), &SSL_CTX_free) {
    REQUIRE(SSL_CTX_use_certificate_file(context_.get(), cert.c_str(), SSL_FILETYPE_PEM) == 1);
    REQUIRE(SSL_CTX_use_PrivateKey_file(context_.get(), key.c_str(), SSL_FILETYPE_PEM) == 1);
    REQUIRE(SSL_CTX_load_verify_locations(context_.get(), ca.c_str(), nullptr) == 1);
    SSL_CTX_set_client_CA_list(context_.get(), SSL_load_client_CA_file(ca.c_str()));
    SSL_CTX_set_session_cache_mode(context_.get(), SSL_SESS_CACHE_OFF);
    SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    ::listen(listener_, 16);
    socklen_t size = sizeof address;
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    host_ = "127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    thread_ = std::thread([this] {
      for (int fd; (fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC)) >= 0; ::close(fd)) serve(fd);
    });
  }
  ~strict_server() {
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
  }
  const std::string& host() const { return host_; }

 private:
  void serve(int fd) {
    std::unique_ptr<SSL, decltype(&SSL_free)> ssl(SSL_new(context_.get()), &SSL_free);
    SSL_set_fd(ssl.get(), fd);
    if (SSL_accept(ssl.get()) != 1) return;
    std::string head;
    char bytes[4096];
    for (int n; head.find("\r\n\r\n") == head.npos && (n = SSL_read(ssl.get(), bytes, sizeof bytes)) > 0;)
      head.append(bytes, static_cast<std::size_t>(n));
    std::unique_ptr<X509, decltype(&X509_free)> shown(SSL_get1_peer_certificate(ssl.get()), &X509_free);
    char name[256] = "nobody";
    if (shown)
      X509_NAME_get_text_by_NID(X509_get_subject_name(shown.get()), NID_commonName, name, sizeof name);
    std::string body = name;
    auto out = "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) +
               "\r\nConnection: close\r\n\r\n" + body;
    SSL_write(ssl.get(), out.data(), static_cast<int>(out.size()));
    SSL_shutdown(ssl.get());
  }

  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_;
  int listener_ = -1;
  std::string host_;
  std::thread thread_;
};

}  // namespace

TEST_CASE("of several client certificates a registry sees the one its CA has signed") {
  test::temp_dir dir;
  auto now = std::time(nullptr) - 60;
  auto file = [&](const std::string& name, const std::string& text) {
    auto path = (dir / name).string();
    std::ofstream(path) << text;
    return path;
  };
  configs::registry_config c;
  c.insecure = true;
  std::vector<std::string> cas;
  for (std::string name : {"first", "second", "third"}) {
    auto ca = *configs::make_authority("ca of " + name, now, std::chrono::hours(1));
    auto pair = *configs::make_certificate(ca, name, {}, now, std::chrono::hours(1));
    cas.push_back(file(name + "-ca.pem", ca.cert));
    c.key_pairs.push_back({file(name + ".key", pair.key), file(name + ".pem", pair.cert)});
  }
  for (std::size_t i = 0; i < cas.size(); ++i) {
    strict_server server(cas[i], c.key_pairs[0].cert, c.key_pairs[0].key);
    hosts registries{{{server.host(), c}}};
    auto places = registries.endpoints(server.host(), false);
    REQUIRE(places.ok());
    request r;
    r.url = "https://" + server.host() + "/v2/";
    r.tls = places->front().tls;
    auto answer = registries.transport().perform(r);
    INFO((answer.ok() ? "" : answer.error().message));
    REQUIRE(answer.ok());
    CHECK(answer->body == std::vector<std::string>{"first", "second", "third"}[i]);
  }
}
