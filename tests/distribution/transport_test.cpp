#include <catch2/catch.hpp>

#include <chrono>
#include <fstream>
#include <future>

#include <openssl/ssl.h>

#include "base/base64.hpp"
#include "configs/certificates.hpp"
#include "distribution/transport.hpp"
#include "tests/support/http_server.hpp"
#include "tests/support/temp_dir.hpp"

using namespace kiln;
using namespace kiln::distribution;
using test::http_answer;
using test::http_request;
using test::http_server;

namespace {

/// Asks everybody for a certificate and lets in whoever has none; one connection a request.
class tls_server {
 public:
  tls_server(const std::string& cert, const std::string& key,
             std::function<std::string(const std::string& path)> answer)
      : answer_(std::move(answer)), context_(SSL_CTX_new(TLS_server_method()), &SSL_CTX_free) {
    REQUIRE(SSL_CTX_use_certificate_file(context_.get(), cert.c_str(), SSL_FILETYPE_PEM) == 1);
    REQUIRE(SSL_CTX_use_PrivateKey_file(context_.get(), key.c_str(), SSL_FILETYPE_PEM) == 1);
    SSL_CTX_set_session_cache_mode(context_.get(), SSL_SESS_CACHE_OFF);  // each connection shows what it has
    SSL_CTX_set_options(context_.get(), SSL_OP_NO_TICKET);
    SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER, [](int, X509_STORE_CTX*) { return 1; });
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    REQUIRE(::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    ::listen(listener_, 16);
    socklen_t size = sizeof address;
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    url_ = "https://127.0.0.1:" + std::to_string(ntohs(address.sin_port));
    thread_ = std::thread([this] {
      for (int fd; (fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC)) >= 0; ::close(fd)) serve(fd);
    });
  }
  ~tls_server() {
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
  }
  const std::string& url() const { return url_; }
  std::atomic<int> requests{0}, certificates{0};

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
    ++requests;
    certificates += shown != nullptr;
    auto path = head.substr(head.find(' ') + 1);
    auto out = "HTTP/1.1 " + answer_(path.substr(0, path.find(' '))) +
               "Content-Length: 0\r\nConnection: close\r\n\r\n";
    SSL_write(ssl.get(), out.data(), static_cast<int>(out.size()));
    SSL_shutdown(ssl.get());
  }

  std::function<std::string(const std::string&)> answer_;
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_;
  int listener_ = -1;
  std::string url_;
  std::thread thread_;
};

}  // namespace

TEST_CASE("our certificate is shown to the server that was asked, and to none that it redirects to") {
  test::temp_dir dir;
  auto ca = *configs::make_authority("ca", std::time(nullptr) - 60, std::chrono::hours(1));
  auto pair = *configs::make_certificate(ca, "us", {}, std::time(nullptr) - 60, std::chrono::hours(1));
  auto cert = (dir / "cert.pem").string(), key = (dir / "key.pem").string();
  std::ofstream(cert) << pair.cert;
  std::ofstream(key) << pair.key;
  tls_server other(cert, key, [](const std::string&) { return std::string("200 OK\r\n"); });
  std::string back;
  tls_server middle(cert, key,
                    [&](const std::string&) { return "302 Found\r\nLocation: " + back + "/again\r\n"; });
  tls_server first(cert, key, [&](const std::string& path) -> std::string {
    if (path == "/near") return "307 Near\r\nLocation: /here\r\n";
    if (path == "/away") return "307 Away\r\nLocation: " + other.url() + "/x\r\n";
    if (path == "/round") return "307 Round\r\nLocation: " + middle.url() + "/x\r\n";
    return "200 OK\r\n";
  });
  back = first.url();
  transport t(4);
  request r;
  auto tls = std::make_shared<tls_settings>();
  tls->verify = false;
  tls->certificates = {{cert, key}};
  r.tls = tls;
  auto ask = [&](const std::string& path) {
    first.requests = first.certificates = 0;
    r.url = first.url() + path;
    auto answer = t.perform(r);
    INFO((answer.ok() ? "" : answer.error().message));
    REQUIRE(answer.ok());
    CHECK(answer->status == 200);
    return answer->url;
  };
  CHECK(ask("/near") == first.url() + "/here");
  CHECK(first.certificates == 2);
  CHECK(ask("/away") == other.url() + "/x");
  CHECK(first.certificates == 1);
  CHECK(other.requests == 1);
  CHECK(other.certificates == 0);
  // Nor where a stranger sends us back to.
  CHECK(ask("/round") == first.url() + "/again");
  CHECK(first.requests == 2);
  CHECK(first.certificates == 1);
  CHECK(middle.certificates == 0);
}

TEST_CASE("redirects keep method and body as far as HTTP says, and end somewhere") {
  http_server server([](const http_request& r) -> http_answer {
    auto answer = r.method + " " + r.body + " " + r.header("content-type");
    if (r.path == "/301") return {301, {{"Location", "/to"}}, ""};
    if (r.path == "/303") return {303, {{"Location", "to"}}, ""};
    if (r.path == "/308") return {308, {{"Location", "?again"}}, ""};
    if (r.path == "/loop") return {302, {{"Location", "/loop"}}, ""};
    if (r.path == "/file") return {302, {{"Location", "file:///etc/passwd"}}, ""};
    if (r.path == "/none") return {302, {}, "here"};
    return {200, {}, answer};
  });
  transport t(4);
  auto ask = [&](const std::string& method, const std::string& path, const std::string& body = "") {
    request r;
    r.method = method;
    r.url = "http://user:pw@" + server.host() + path;
    r.body = body;
    if (!body.empty()) r.headers = {"Content-Type: text/x"};
    auto answer = t.perform(r);
    return answer.ok() ? std::to_string(answer->status) + " " + answer->body : answer.error().message;
  };
  CHECK(ask("POST", "/301", "b") == "200 GET  text/x");
  CHECK(ask("PUT", "/303", "b") == "200 GET  text/x");
  CHECK(ask("PUT", "/301", "b") == "200 PUT b text/x");
  CHECK(ask("POST", "/308", "b").find("stopped after 10 redirects") != std::string::npos);
  CHECK(ask("GET", "/loop") ==
        "failed to do request: Get \"" + server.url() + "/loop\": stopped after 10 redirects");
  CHECK(ask("GET", "/file") == server.url() + "/file redirects to what is no http URL");
  CHECK(ask("GET", "/none") == "302 here");
  // Whoever signs in by the URL does so within the server, however it names itself.
  CHECK(server.seen().back().header("authorization") == "Basic " + base64_encode("user:pw"));
}

TEST_CASE("a server that is not there is told with its address and the reason") {
  transport t(4);
  auto why = [&](const std::string& url) {
    request r;
    r.url = url;
    r.method = "HEAD";
    wire_failure failure;
    auto answer = t.perform(r, &failure);
    CHECK(failure == wire_failure::refused);
    return answer.ok() ? "" : answer.error().message;
  };
  CHECK(why("http://127.0.0.1:1/v2/") ==
        "failed to do request: Head \"http://127.0.0.1:1/v2/\": dial tcp 127.0.0.1:1: connect: connection "
        "refused");
  CHECK(why("https://127.0.0.1:1/v2/").find("dial tcp 127.0.0.1:1: connect: connection refused") !=
        std::string::npos);
  CHECK(why("http://[::1]:1/").find("dial tcp [::1]:1: connect: ") != std::string::npos);
  CHECK(why("http://name.invalid:5000/v2/") ==
        "failed to do request: Head \"http://name.invalid:5000/v2/\": dial tcp: lookup name.invalid: no such "
        "host");
  CHECK(why("http://user:secret@127.0.0.1:1/").find("secret") == std::string::npos);
}

TEST_CASE("connections are used again") {
  std::atomic<int> served{0};
  http_server server([&](const http_request&) {
    ++served;
    return http_answer{200, {}, "hello"};
  });
  transport t(4);
  for (int i = 0; i < 5; ++i) {
    request r;
    r.url = server.url() + "/x";
    auto a = t.perform(r);
    REQUIRE(a.ok());
    CHECK(a->body == "hello");
  }
  CHECK(served == 5);
  CHECK(server.connections() == 1);
}

TEST_CASE("a redirect to another host is followed without our credentials") {
  http_server other([](const http_request& r) { return http_answer{200, {}, r.header("authorization")}; });
  http_server first([&](const http_request& r) {
    if (r.path == "/same") return http_answer{307, {{"Location", "/target"}}, ""};
    if (r.path == "/target") return http_answer{200, {}, r.header("authorization")};
    return http_answer{307, {{"Location", "http://localhost:" + std::to_string(other.port()) + "/x"}}, ""};
  });
  transport t(4);
  request r;
  r.headers = {"Authorization: Bearer secret"};
  r.url = first.url() + "/same";
  CHECK(t.perform(r)->body == "Bearer secret");
  r.url = first.url() + "/away";
  CHECK(t.perform(r)->body == "");
}

TEST_CASE("a stalled answer ends at once when the job is cancelled", "[time]") {
  std::promise<void> reached;
  http_server server([&](const http_request&) {
    reached.set_value();
    http_answer a;
    a.body = "partial";
    a.headers = {{"Content-Length", "1000"}};
    a.hang = true;
    return a;
  });
  transport t(4);
  std::stop_source stop;
  request r;
  r.url = server.url();
  r.stop = stop.get_token();
  auto answer = std::async(std::launch::async, [&] { return t.perform(r); });
  reached.get_future().wait();
  auto asked = std::chrono::steady_clock::now();
  stop.request_stop();
  auto a = answer.get();
  CHECK(a.error().code == errc::cancelled);
  CHECK(std::chrono::steady_clock::now() - asked < std::chrono::milliseconds(900));
}

TEST_CASE("a peer that goes silent is given up as unavailable") {
  http_server server([&](const http_request&) {
    http_answer a;
    a.headers = {{"Content-Length", "1000"}};
    a.hang = true;
    return a;
  });
  transport t(4);
  request r;
  r.url = server.url();
  r.stall_timeout = std::chrono::seconds(1);
  CHECK(t.perform(r).error().code == errc::unavailable);
}

TEST_CASE("a body that breaks off, a refused port and an unknown host are unavailable") {
  http_server server([](const http_request&) {
    http_answer a;
    a.body = std::string(1'000, 'x');
    a.send_only = 10;
    return a;
  });
  transport t(4);
  request r;
  r.url = server.url();
  CHECK(t.perform(r).error().code == errc::unavailable);
  wire_failure why;
  r.url = "http://127.0.0.1:1/";
  CHECK(t.perform(r, &why).error().code == errc::unavailable);
  CHECK(why == wire_failure::refused);
  r.url = "ftp://127.0.0.1/";
  CHECK(t.perform(r).error().code == errc::invalid_argument);
}

TEST_CASE("an answer larger than allowed is refused") {
  http_server server([](const http_request&) { return http_answer{200, {}, std::string(10'000, 'x')}; });
  transport t(4);
  request r;
  r.url = server.url();
  r.max_body = 9'999;
  CHECK(t.perform(r).error().code == errc::resource_exhausted);
  r.max_body = 10'000;
  CHECK(t.perform(r).ok());
}

TEST_CASE("headers larger than allowed are refused, one or all together, and the error says which bound") {
  http_server server([](const http_request& r) {
    http_answer out{200, {}, "x"};
    bool one = r.path == "/one";
    for (int i = 0; i < (one ? 1 : 200); ++i)
      out.headers.emplace_back("x-" + std::to_string(i), std::string(one ? 5'000'000 : 20'000, 'x'));
    return out;
  });
  transport t(4);
  request r;
  r.url = server.url() + "/one";
  auto one = t.perform(r);
  REQUIRE_FALSE(one.ok());
  CHECK(one.error().code == errc::resource_exhausted);
  CHECK(one.error().message.find("a header of the answer is larger than 102400 bytes") != std::string::npos);
  r.url = server.url() + "/many";
  auto many = t.perform(r);
  REQUIRE_FALSE(many.ok());
  CHECK(many.error().code == errc::resource_exhausted);
  CHECK(many.error().message == "headers of the answer from " + r.url + " are larger than 262144 bytes");
}

TEST_CASE("permits for bulk transfers are counted per host") {
  transport t(2);
  std::stop_source stop;
  auto a = t.acquire("h", stop.get_token());
  auto b = t.acquire("h", stop.get_token());
  REQUIRE(b.ok());
  CHECK(t.acquire("other", stop.get_token()).ok());
  auto third = std::async(std::launch::async, [&] { return t.acquire("h", stop.get_token()).ok(); });
  { auto gone = std::move(a).value(); }
  CHECK(third.get());
  auto c = t.acquire("h", stop.get_token());
  stop.request_stop();
  CHECK(t.acquire("h", stop.get_token()).error().code == errc::cancelled);
}
