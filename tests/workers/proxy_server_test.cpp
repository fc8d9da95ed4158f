// The proxy of a step as its programs meet it: a server on a loopback port, with web servers behind it, rude
// ones too. Only the network namespace is missing, which the interop test has.
#include <catch2/catch.hpp>

#include <curl/curl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <thread>

#include "base/digest.hpp"
#include "configs/proxy.hpp"
#include "tests/support/http_server.hpp"
#include "tests/support/temp_dir.hpp"
#include "workers/proxy/server.hpp"

using namespace kiln;
using namespace kiln::workers;
using namespace std::chrono_literals;

namespace {

std::shared_ptr<proxy::certificates> authority() {
  static auto made = proxy::certificates::make().value();  // its keys take a while
  return made;
}

int listener_on_loopback(int& port) {
  int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ::bind(fd, reinterpret_cast<sockaddr*>(&address), size);
  ::listen(fd, 64);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size);
  port = ntohs(address.sin_port);
  return fd;
}

struct running_proxy {
  explicit running_proxy(proxy::judge may = nullptr, std::size_t connections_max = 16) {
    ::signal(SIGPIPE, SIG_IGN);  // as in the daemon
    proxy::server_options options;
    options.listener.reset(listener_on_loopback(port));
    options.authority = authority();
    options.may = std::move(may);
    options.record = &record;
    options.connections_max = connections_max;
    server = proxy::server::start(std::move(options)).value();
  }
  proxy_capture captured() {
    server.reset();  // then all is recorded
    return record.captured();
  }

  proxy::recorder record;
  int port = 0;
  std::unique_ptr<proxy::server> server;
};

/// A step's program, at its plainest.
class client {
 public:
  explicit client(int port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<std::uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    timeval patience{10, 0};
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    REQUIRE(::connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }
  void send(const std::string& text) { ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL); }
  /// Up to and with `end`, or all that comes before the connection ends.
  std::string read_until(const std::string& end) {
    std::string out;
    char byte = 0;
    while ((end.empty() || !out.ends_with(end)) && ::recv(fd_.get(), &byte, 1, 0) == 1) out += byte;
    return out;
  }
  std::string read_all() { return read_until(""); }

 private:
  unique_fd fd_;
};

std::string get(const std::string& url, const std::string& more = "Connection: close\r\n") {
  return "GET " + url + " HTTP/1.1\r\nHost: x\r\n" + more + "\r\n";
}

std::string reasons(const proxy_capture& all) {
  std::string out;
  for (const auto& g : all.gaps) out += g.method + " " + g.reason + "\n";
  return out;
}

}  // namespace

TEST_CASE("what is fetched through the proxy arrives as it is, and its digest is known") {
  test::http_server web([](const test::http_request& r) {
    CHECK(r.header("accept-encoding").empty());
    CHECK(r.header("proxy-authorization").empty());
    CHECK(r.header("x-mine") == "1");
    test::http_answer answer;
    answer.headers = {{"Content-Encoding", "gzip"}, {"X-Theirs", "2"}, {"Keep-Alive", "timeout=5"}};
    answer.body = "not really compressed";
    return answer;
  });
  running_proxy p;
  client c(p.port);
  c.send(get(web.url() + "/a?b",
             "Accept-Encoding: gzip\r\nProxy-Authorization: x\r\nX-Mine: 1\r\nConnection: close\r\n"));
  auto text = c.read_all();
  CHECK(text.starts_with("HTTP/1.1 200 "));
  CHECK(text.find("X-Theirs: 2\r\n") != text.npos);
  CHECK(text.find("Keep-Alive:") == text.npos);
  CHECK(text.ends_with("\r\n\r\nnot really compressed"));
  REQUIRE(web.seen().size() == 1);
  CHECK(web.seen()[0].target == "/a?b");
  auto all = p.captured();
  CHECK(all.materials ==
        std::vector<proxied_material>{{web.url() + "/a?b", sha256("not really compressed").str()}});
  CHECK(all.gaps.empty());
  CHECK(p.record.summary() == "proxy network requests:\n- GET " + web.url() + "/a?b -> 200\n");
}

TEST_CASE("one connection asks again and again, and answers without a length come in chunks") {
  test::http_server web([](const test::http_request& r) {
    test::http_answer answer;
    answer.body = r.path;
    answer.omit_length = r.path == "/long";
    return answer;
  });
  running_proxy p;
  client c(p.port);
  c.send(get(web.url() + "/long", ""));
  auto first = c.read_until("0\r\n\r\n");
  CHECK(first.find("Transfer-Encoding: chunked\r\n") != first.npos);
  CHECK(first.find("\r\n5\r\n/long\r\n") != first.npos);
  c.send(get(web.url() + "/second", ""));
  CHECK(c.read_until("/second").ends_with("\r\n\r\n/second"));
  c.send("GET " + web.url() + "/long HTTP/1.0\r\n\r\n");  // until the end of the connection
  auto third = c.read_all();
  CHECK(third.starts_with("HTTP/1.0 200 "));
  CHECK(third.ends_with("\r\n\r\n/long"));
  CHECK(third.find("chunked") == third.npos);
  CHECK(p.captured().materials.size() == 3);
}

TEST_CASE("bodies are sent on, in chunks or with a length, and what is posted is no material") {
  test::http_server web([](const test::http_request& r) {
    return test::http_answer{200, {}, r.method + ":" + r.body + ":" + r.header("content-length")};
  });
  running_proxy p;
  client c(p.port);
  c.send("POST " + web.url() + "/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\none");
  CHECK(c.read_until("POST:one:3").ends_with("POST:one:3"));
  c.send("PUT " + web.url() + "/ HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
  CHECK(c.read_until("PUT::0").ends_with("PUT::0"));
  c.send("POST " + web.url() + "/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  CHECK(c.read_until("\r\n\r\n") == "HTTP/1.1 100 Continue\r\n\r\n");
  c.send("two");
  CHECK(c.read_until("POST:two:3").ends_with("POST:two:3"));
  CHECK(reasons(p.captured()) ==
        "POST method_not_materializable\nPUT method_not_materializable\nPOST method_not_materializable\n");
}

TEST_CASE("what a policy refuses is not asked for, and the step is told why") {
  test::http_server web([](const test::http_request&) { return test::http_answer{200, {}, "no"}; });
  test::http_server mirror([](const test::http_request&) { return test::http_answer{200, {}, "mirrored"}; });
  running_proxy p([&](const pb::SourceOp& source, std::stop_token) -> result<pb::SourceOp> {
    if (source.identifier().find("/denied") != std::string::npos)
      return make_error(errc::permission_denied, "source denied by rule 2 (DENY *denied)");
    auto out = source;
    out.set_identifier(mirror.url() + "/there");
    return out;
  });
  {
    client c(p.port);
    c.send(get(web.url() + "/denied", ""));
    auto text = c.read_all();  // the connection ends
    CHECK(text.starts_with("HTTP/1.1 403 Forbidden\r\n"));
    CHECK(text.find("rule 2 (DENY *denied)") != text.npos);
  }
  {
    client c(p.port);
    c.send(get(web.url() + "/moved"));
    CHECK(c.read_all().ends_with("mirrored"));
  }
  {
    client c(p.port);
    c.send("DELETE " + web.url() + "/moved HTTP/1.1\r\nHost: x\r\n\r\n");
    CHECK(c.read_all().find("only a GET can be sent elsewhere") != std::string::npos);
  }
  CHECK(web.seen().empty());
  auto all = p.captured();
  REQUIRE(all.materials.size() == 1);
  CHECK(all.materials[0].url == mirror.url() + "/there");
  CHECK(p.record.summary().find("- GET " + web.url() + "/denied -> 403: source denied by rule 2") !=
        std::string::npos);
}

TEST_CASE("what is no request is refused with a reason") {
  running_proxy p;
  auto answer_to = [&](const std::string& text) {
    client c(p.port);
    c.send(text);
    return c.read_all();
  };
  CHECK(answer_to(
            "GET http://a/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n")
            .starts_with("HTTP/1.1 400 "));
  CHECK(answer_to("GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n").starts_with("HTTP/1.1 501 "));
  CHECK(answer_to("CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n").starts_with("HTTP/1.1 400 "));
  CHECK(answer_to("GET http://a/ HTTP/1.1\r\nX: " + std::string(configs::proxy::head_bytes_max, 'x'))
            .starts_with("HTTP/1.1 431 "));
  CHECK(p.captured().gaps.empty());
}

TEST_CASE("an answer that breaks off does not look whole, and is a gap") {
  test::http_server web([](const test::http_request& r) {
    test::http_answer answer;
    answer.body = std::string(1'000, 'x');
    answer.send_only = 10;
    if (r.path == "/missing") answer = {404, {}, "none"};
    return answer;
  });
  running_proxy p;
  {
    client c(p.port);
    c.send(get(web.url() + "/short", ""));
    auto text = c.read_all();
    CHECK(text.find("Content-Length: 1000\r\n") != text.npos);
    CHECK(text.ends_with("\r\n\r\nxxxxxxxxxx"));
  }
  {
    client c(p.port);
    c.send(get(web.url() + "/missing"));
    CHECK(c.read_all().starts_with("HTTP/1.1 404 "));
  }
  {
    client c(p.port);
    c.send(get(web.url() + "/short", "Range: bytes=0-9\r\nConnection: close\r\n"));
    (void)c.read_all();
  }
  int nobody = 0;
  unique_fd held(listener_on_loopback(nobody));
  held.reset();
  {
    client c(p.port);
    c.send(get("http://127.0.0.1:" + std::to_string(nobody) + "/"));
    CHECK(c.read_all().starts_with("HTTP/1.1 502 Bad Gateway\r\n"));
  }
  auto all = p.captured();
  CHECK(all.materials.empty());
  CHECK(reasons(all) ==
        "GET body_read_failed\nGET unsuccessful_response\nGET partial_response\nGET upstream_error\n");
}

TEST_CASE("an answer whose lengths differ is none: nothing of it is taken for the next answer") {
  const std::string forged = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nFORGED";
  std::vector<std::pair<std::string, std::string>> lengths;
  test::http_server web([&](const test::http_request& r) {
    test::http_answer answer;
    answer.body = r.path == "/true" ? "true" : "12345" + forged;
    if (r.path != "/true") answer.headers = lengths;
    return answer;
  });
  auto whole = std::to_string(5 + forged.size());
  for (auto wrong : std::vector<std::vector<std::string>>{
           {"5", whole}, {whole, "5"}, {"99999999999999999999"}, {"5, 5"}, {"+5"}, {"-1"}}) {
    lengths.clear();
    for (const auto& l : wrong) lengths.emplace_back("Content-Length", l);
    INFO(wrong.front());
    running_proxy p;
    client c(p.port);
    c.send(get(web.url() + "/evil", ""));
    auto first = c.read_until("\r\n\r\n");
    CHECK(first.find("FORGED") == first.npos);
    CHECK(first.starts_with("HTTP/1.1 502 "));
    client other(p.port);
    other.send(get(web.url() + "/true"));
    CHECK(other.read_all().ends_with("\r\n\r\ntrue"));
    auto all = p.captured();
    CHECK(all.materials == std::vector<proxied_material>{{web.url() + "/true", sha256("true").str()}});
    CHECK(reasons(all) == "GET upstream_error\n");
  }
}

TEST_CASE("connections that only wait make room for those that ask") {
  test::http_server web([](const test::http_request&) { return test::http_answer{200, {}, "ok"}; });
  running_proxy p(nullptr, 4);
  std::vector<std::unique_ptr<client>> idle;
  for (int i = 0; i < 12; ++i) idle.push_back(std::make_unique<client>(p.port));
  client c(p.port);
  c.send(get(web.url() + "/"));
  CHECK(c.read_all().ends_with("ok"));
}

TEST_CASE("the end of a step ends what its proxy is doing, whoever keeps it waiting") {
  test::http_server web([](const test::http_request& r) {
    test::http_answer answer;
    answer.hang = r.path == "/hang";
    return answer;
  });
  std::atomic<bool> asked{false};
  running_proxy p([&](const pb::SourceOp& source, std::stop_token stop) -> result<pb::SourceOp> {
    if (source.identifier().find("/judge") == std::string::npos) return source;
    asked = true;
    while (!stop.stop_requested()) std::this_thread::yield();
    return make_error(errc::cancelled, "context canceled");
  });
  client judged(p.port), hanging(p.port), slow(p.port), body(p.port), idle(p.port), tls(p.port);
  judged.send(get(web.url() + "/judge"));
  hanging.send(get(web.url() + "/hang"));
  slow.send("GET http://a/ HT");
  body.send("POST " + web.url() + "/hang HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nonly");
  tls.send("CONNECT a.test:443 HTTP/1.1\r\nHost: a.test:443\r\n\r\n");
  CHECK(tls.read_until("\r\n\r\n").starts_with("HTTP/1.1 200 "));
  while (!asked || web.seen().empty()) std::this_thread::yield();
  auto begin = std::chrono::steady_clock::now();
  p.server.reset();
  CHECK(std::chrono::steady_clock::now() - begin < 5s);
}

namespace {

/// A web server with TLS, for one connection and one request.
struct secure_server {
  explicit secure_server(proxy::certificates& its_authority) {
    fd.reset(listener_on_loopback(port));
    context = *its_authority.server_for("127.0.0.1");
    waiter = std::thread([this] { serve(); });
  }
  ~secure_server() {
    ::shutdown(fd.get(), SHUT_RDWR);
    waiter.join();
  }
  void serve() {
    pollfd ready{fd.get(), POLLIN, 0};
    if (::poll(&ready, 1, 10'000) != 1) return;
    unique_fd one(::accept4(fd.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!one) return;
    proxy::ssl_ptr ssl(SSL_new(context.get()));
    SSL_set_fd(ssl.get(), one.get());
    if (SSL_accept(ssl.get()) != 1) return;
    std::string got;
    char bytes[4096];
    while (got.find("\r\n\r\n") == got.npos) {
      int n = SSL_read(ssl.get(), bytes, sizeof bytes);
      if (n <= 0) return;
      got.append(bytes, static_cast<std::size_t>(n));
    }
    seen = got;
    std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecret";
    SSL_write(ssl.get(), answer.data(), static_cast<int>(answer.size()));
    SSL_shutdown(ssl.get());
  }

  int port = 0;
  unique_fd fd;
  proxy::context_ptr context;
  std::string seen;
  std::thread waiter;
};

std::size_t append(char* data, std::size_t size, std::size_t n, void* to) {
  static_cast<std::string*>(to)->append(data, size * n);
  return size * n;
}

/// As curl in a step would: the proxy of its environment, the CA of its bundle.
CURLcode fetch_by_curl(const std::string& url, int proxy_port, const std::string& ca, std::string& body) {
  CURL* easy = curl_easy_init();
  auto proxy = "http://127.0.0.1:" + std::to_string(proxy_port);
  curl_blob blob{const_cast<char*>(ca.data()), ca.size(), CURL_BLOB_COPY};
  curl_easy_setopt(easy, CURLOPT_URL, url.c_str());
  curl_easy_setopt(easy, CURLOPT_PROXY, proxy.c_str());
  curl_easy_setopt(easy, CURLOPT_CAINFO_BLOB, &blob);
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(easy, CURLOPT_TIMEOUT, 20L);
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &append);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &body);
  auto code = curl_easy_perform(easy);
  curl_easy_cleanup(easy);
  return code;
}

}  // namespace

TEST_CASE("https goes through the proxy by its own certificates, and the server's are checked") {
  auto theirs = proxy::certificates::make().value();
  test::temp_dir dir;
  auto file = dir.path() / "ca.pem";
  std::ofstream(file) << theirs->ca();
  running_proxy p;
  std::string body;
  {
    secure_server web(*theirs);
    auto url = "https://127.0.0.1:" + std::to_string(web.port) + "/x";
    // Whom nobody vouches for the proxy does not trust, and so the step gets nothing from it.
    CHECK(fetch_by_curl(url, p.port, authority()->ca(), body) == CURLE_OK);
    CHECK(body.starts_with("Bad Gateway: "));
    CHECK(web.seen.empty());
  }
  ::setenv("SSL_CERT_FILE", file.c_str(), 1);
  {
    secure_server web(*theirs);
    auto url = "https://127.0.0.1:" + std::to_string(web.port) + "/x";
    body.clear();
    CHECK(fetch_by_curl(url, p.port, authority()->ca(), body) == CURLE_OK);
    CHECK(body == "secret");
    // A step that does not trust the proxy's CA asks nothing.
    CHECK(fetch_by_curl(url, p.port, theirs->ca(), body) == CURLE_PEER_FAILED_VERIFICATION);
    // The client has gone, and the proxy is about to see why.
    auto give_up = std::chrono::steady_clock::now() + 10s;
    while (p.record.summary().find("CONNECT") == std::string::npos &&
           std::chrono::steady_clock::now() < give_up)
      std::this_thread::yield();
    auto all = p.captured();
    REQUIRE(all.materials.size() == 1);
    CHECK(all.materials[0].url == url);
    CHECK(all.materials[0].digest == sha256("secret").str());
    CHECK(p.record.summary().find("- CONNECT " + url.substr(0, url.size() - 1) +
                                  ": no TLS with the step: ") != std::string::npos);
  }
  ::unsetenv("SSL_CERT_FILE");
}
