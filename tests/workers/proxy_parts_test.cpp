// The parts of the proxy that need no network: what it reads, which URLs it sees, what it remembers, whom it
// stands for, and how a step comes to trust it.
#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <filesystem>
#include <fstream>

#include "base/files.hpp"
#include "configs/proxy.hpp"
#include "tests/support/temp_dir.hpp"
#include "workers/proxy/certificates.hpp"
#include "workers/proxy/chunked_body.hpp"
#include "workers/proxy/http_head.hpp"
#include "workers/proxy/judge.hpp"
#include "workers/proxy/recorder.hpp"
#include "workers/proxy/target.hpp"
#include "workers/proxy/trust.hpp"

using namespace kiln;
using namespace kiln::workers;
using namespace std::chrono_literals;

namespace {

proxy::request_head head_of(const std::string& text) {
  auto head = proxy::parse_request_head(text);
  if (!head.ok()) FAIL(head.error().message);
  return *std::move(head);
}

errc refusal(const std::string& text) {
  auto head = proxy::parse_request_head(text);
  return head.ok() ? errc::ok : head.error().code;
}

std::string get(const std::string& target, const std::string& more = "Host: a.test\r\n") {
  return "GET " + target + " HTTP/1.1\r\n" + more + "\r\n";
}

std::string url_of(const std::string& head, const std::string& tunnel = "") {
  auto url = proxy::asked_url(head_of(head), tunnel);
  return url.ok() ? *url : std::string(to_string(url.error().code));
}

}  // namespace

TEST_CASE("a request's head is read with all that it says of the message") {
  auto head = head_of(
      "POST http://a.test/x?y HTTP/1.1\r\nHost: a.test\r\nContent-Length:  12 \r\nX-A: one, two\r\n"
      "Expect: 100-continue\r\nConnection: close\r\n\r\n");
  CHECK(head.method == "POST");
  CHECK(head.target == "http://a.test/x?y");
  CHECK(head.length == 12);
  CHECK(head.has_body());
  CHECK(head.expects_continue);
  CHECK_FALSE(head.keep_alive);
  CHECK(*proxy::find_header(head.headers, "x-a") == "one, two");
  CHECK(head_of(get("/")).keep_alive);
  CHECK_FALSE(head_of("GET / HTTP/1.0\r\n\r\n").keep_alive);
  CHECK(head_of("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").keep_alive);
  CHECK(head_of(get("/", "Host: a\r\nTransfer-Encoding: Chunked\r\n")).chunked);
  CHECK(proxy::head_end("GET / HTTP/1.1\r\nHost: a\r\n") == 0);
  CHECK(proxy::head_end("GET / HTTP/1.1\r\n\r\nrest") == 18);
}

TEST_CASE("what two readers could take for two requests is refused") {
  for (const auto& text : {
           get("/", "Host: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n"),
           get("/", "Host: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n"),
           get("/", "Host: a\r\nContent-Length: 3, 3\r\n"),
           get("/", "Host: a\r\nContent-Length: +3\r\n"),
           get("/", "Host: a\r\nContent-Length: 99999999999999999999\r\n"),
           get("/", "Host: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
           get("/", "Host: a\r\nHost: b\r\n"),
           get("/", ""),
           get("/", "Host : a\r\n"),
           get("/", "Host: a\r\n folded: b\r\n"),
           get("/", "Host: a\r\nX: a\rb\r\n"),
           get("/", "Host: a\r\nX: a\nY: b\r\n"),
           get("/", "Host: a\r\nX: " + std::string(1, '\0') + "\r\n"),
           get("/", "Host: a\r\nno colon\r\n"),
           get("/", "Host: a\r\n: nameless\r\n"),
           std::string("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
           std::string("GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
           std::string("GET /\r\nHost: a\r\n\r\n"),
           std::string("G(T / HTTP/1.1\r\nHost: a\r\n\r\n"),
           std::string("\r\n\r\n"),
           std::string("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
       }) {
    INFO(text);
    CHECK(refusal(text) == errc::invalid_argument);
  }
  CHECK(refusal("GET / HTTP/2.0\r\nHost: a\r\n\r\n") == errc::unimplemented);
  CHECK(refusal(get("/", "Host: a\r\nTransfer-Encoding: gzip, chunked\r\n")) == errc::unimplemented);
  std::string many = "Host: a\r\n";
  for (std::size_t i = 0; i < configs::proxy::headers_max; ++i) many += "X: y\r\n";
  CHECK(refusal(get("/", many)) == errc::resource_exhausted);
}

TEST_CASE("what is between two neighbours only goes no further") {
  auto head =
      head_of(get("/",
                  "Host: a\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nX-Theirs: 2\r\nTE: trailers\r\n"
                  "Proxy-Authorization: Basic eA==\r\nUpgrade: websocket\r\n"));
  CHECK(proxy::end_to_end(head.headers) == proxy::header_list{{"Host", "a"}, {"X-Theirs", "2"}});
}

TEST_CASE("chunks are put together however they arrive, and nothing else is taken for them") {
  const std::string body = "4;name=value\r\nwiki\r\n05\r\npedia\r\n0\r\nX-After: 1\r\n\r\nnext";
  for (std::size_t piece = 1; piece <= body.size(); ++piece) {
    proxy::chunked_body chunks;
    std::string out, buffer;
    bool done = false;
    for (std::size_t at = 0; at < body.size() && !done; at += piece) {
      buffer += body.substr(at, piece);
      std::string_view in(buffer);
      auto end = chunks.take(in, out, 1'000);
      REQUIRE(end.ok());
      done = *end;
      buffer.erase(0, buffer.size() - in.size());
    }
    CHECK(done);
    CHECK(out == "wikipedia");
    CHECK(std::string("next").starts_with(buffer));
  }
  {
    proxy::chunked_body chunks;
    std::string out;
    std::string_view in(body);
    REQUIRE(chunks.take(in, out, 2).ok());
    CHECK(out == "wi");  // no more than there is room for
    CHECK_FALSE(chunks.done());
  }
  for (std::string bad : {"x\r\n", "\r\n", "-1\r\n", "1\na\r\n", "1\r\nab\r\n", "1 1\r\n", "0x1\r\n",
                          "fffffffffffffffff\r\n", "1;\x01\r\n"}) {
    INFO(bad);
    proxy::chunked_body chunks;
    std::string out;
    std::string_view in(bad);
    CHECK_FALSE(chunks.take(in, out, 1'000).ok());
  }
  proxy::chunked_body endless;
  std::string out, size(configs::proxy::chunk_line_bytes_max + 10, '0');
  std::string_view in(size);
  CHECK_FALSE(endless.take(in, out, 1'000).ok());
}

TEST_CASE("a request is about one URL, whichever way it is written") {
  CHECK(url_of(get("http://A.test:80/x/../y")) == "http://a.test/y");
  CHECK(url_of(get("https://a.test:443/y")) == "https://a.test/y");
  CHECK(url_of(get("http://user:pw@a.test/y")) == "http://user:pw@a.test/y");
  CHECK(url_of(get("/y?z", "Host: a.test:8080\r\n")) == "http://a.test:8080/y?z");
  CHECK(url_of(get("http://b.test/y", "Host: a.test\r\n")) == "http://b.test/y");  // the URL counts
  CHECK(url_of(get("/y"), "https://a.test") == "https://a.test/y");
  CHECK(url_of(get("/y", "Host: A.test:443\r\n"), "https://a.test") == "https://a.test/y");
  CHECK(url_of(get("ftp://a.test/y")) == "unimplemented");
  CHECK(url_of(get("*")) == "invalid argument");
  CHECK(url_of(get("/y", "Host: a.test/x\r\n")) == "invalid argument");
  CHECK(url_of(get("/y", "Host: me@a.test\r\n")) == "invalid argument");
}

TEST_CASE("in a tunnel nothing but its own host is asked for") {
  auto connect = [](const std::string& target) {
    auto origin = proxy::tunnel_origin(head_of("CONNECT " + target + " HTTP/1.1\r\nHost: x\r\n\r\n"));
    return origin.ok() ? *origin : std::string(to_string(origin.error().code));
  };
  CHECK(connect("A.test:443") == "https://a.test");
  CHECK(connect("a.test:8443") == "https://a.test:8443");
  CHECK(connect("[::1]:443") == "https://[::1]");
  for (const auto* bad : {"a.test", "a.test:", "a.test:x", "a.test:1/x", "me@a.test:443", ":443"}) {
    INFO(bad);
    CHECK(connect(bad) == "invalid argument");
  }
  CHECK(url_of(get("/y", "Host: b.test\r\n"), "https://a.test") == "failed precondition");
  CHECK(url_of(get("https://b.test/y"), "https://a.test") == "failed precondition");
  CHECK(url_of(get("http://a.test/y"), "https://a.test") == "failed precondition");
}

TEST_CASE("passwords are not shown") {
  CHECK(proxy::shown_url("https://user:pass@example.com:443/file") == "https://xxxxx:xxxxx@example.com/file");
  CHECK(proxy::shown_url("https://user@[2001:db8::1]:8443/file") == "https://xxxxx@[2001:db8::1]:8443/file");
  CHECK(proxy::shown_url("nothing of a URL").empty());
}

TEST_CASE("a judge may refuse a request or send a GET elsewhere, and no more") {
  auto to = [](const std::string& target, bool with_attribute = false) -> proxy::judge {
    return [=](const pb::SourceOp& source, std::stop_token) -> result<pb::SourceOp> {
      auto out = source;
      out.set_identifier(target);
      if (with_attribute) (*out.mutable_attrs())["http.checksum"] = "sha256:x";
      return out;
    };
  };
  const std::string url = "http://u:pw@a.test/x";
  CHECK(*proxy::judged_url(nullptr, "POST", url, {}) == url);
  CHECK(*proxy::judged_url(to(url), "POST", url, {}) == url);
  CHECK(*proxy::judged_url(to("https://b.test/x"), "GET", url, {}) == "https://b.test/x");
  for (auto refused : {proxy::judged_url(to("https://b.test/x"), "POST", url, {}),
                       proxy::judged_url(to("https://b.test/x", true), "GET", url, {}),
                       proxy::judged_url(to("git://b.test/x"), "GET", url, {})}) {
    REQUIRE_FALSE(refused.ok());
    CHECK(refused.error().code == errc::permission_denied);
    CHECK(refused.error().message.find("pw") == std::string::npos);
  }
}

TEST_CASE("what was redirected has the digest of what it led to") {
  proxy::recorder record;
  CHECK(record.summary().empty());
  record.request("GET", "http://a/1", 302);
  record.redirect("http://a/1", "http://a/2");
  record.request("GET", "http://a/2", 301);
  record.redirect("http://a/2", "http://b/3");
  record.request("GET", "http://b/3", 200);
  record.material("http://b/3", "sha256:x");
  record.redirect("http://c/1", "http://c/2");  // in circles
  record.redirect("http://c/2", "http://c/1");
  record.request("GET", "http://d/", 403, "source denied");
  record.request("CONNECT", "https://e/", 0, "no TLS");
  record.gap("POST", "http://a/4", "method_not_materializable");
  auto all = record.captured();
  CHECK(all.materials == std::vector<proxied_material>{{"http://b/3", "sha256:x"},
                                                       {"http://a/1", "sha256:x"},
                                                       {"http://a/2", "sha256:x"}});
  CHECK(all.gaps == std::vector<proxied_gap>{{"POST", "http://a/4", "method_not_materializable"}});
  CHECK(record.summary() ==
        "proxy network requests:\n- GET http://a/1 -> 302\n- GET http://a/2 -> 301\n- GET http://b/3 -> 200\n"
        "- GET http://d/ -> 403: source denied\n- CONNECT https://e/: no TLS\n");
  auto again = parse_proxy_capture(to_text(all));
  REQUIRE(again.ok());
  CHECK(*again == all);
  CHECK_FALSE(parse_proxy_capture("").ok());
  CHECK_FALSE(parse_proxy_capture("{}").ok());
}

TEST_CASE("a step that asks without end is remembered up to a bound, and that is told") {
  proxy::recorder record;
  for (std::size_t i = 0; i < configs::proxy::requests_max + 5; ++i) {
    auto url = "http://a/" + std::to_string(i);
    record.request("GET", url, 200);
    record.material(url, "sha256:x");
  }
  auto all = record.captured();
  CHECK(all.materials.size() == configs::proxy::requests_max);
  REQUIRE(all.gaps.size() == 1);
  CHECK(all.gaps[0].reason == "too_many_requests");
  CHECK(record.summary().ends_with("- and more than can be told\n"));
}

namespace {

/// What OpenSSL makes of a server's certificate with only that CA to trust: X509_V_OK, or why not.
int verdict(const std::string& ca, SSL_CTX* server, const std::string& host, bool is_address) {
  std::unique_ptr<BIO, decltype(&BIO_free_all)> text(BIO_new_mem_buf(ca.data(), static_cast<int>(ca.size())),
                                                     BIO_free_all);
  proxy::x509_ptr root(PEM_read_bio_X509(text.get(), nullptr, nullptr, nullptr));
  std::unique_ptr<X509_STORE, decltype(&X509_STORE_free)> store(X509_STORE_new(), X509_STORE_free);
  X509_STORE_add_cert(store.get(), root.get());
  std::unique_ptr<X509_STORE_CTX, decltype(&X509_STORE_CTX_free)> context(X509_STORE_CTX_new(),
                                                                          X509_STORE_CTX_free);
  X509_STORE_CTX_init(context.get(), store.get(), SSL_CTX_get0_certificate(server), nullptr);
  auto* wanted = X509_STORE_CTX_get0_param(context.get());
  X509_VERIFY_PARAM_set_purpose(wanted, X509_PURPOSE_SSL_SERVER);
  X509_VERIFY_PARAM_set_flags(wanted, X509_V_FLAG_X509_STRICT);
  if (is_address) X509_VERIFY_PARAM_set1_ip_asc(wanted, host.c_str());
  else X509_VERIFY_PARAM_set1_host(wanted, host.data(), host.size());
  X509_verify_cert(context.get());
  return X509_STORE_CTX_get_error(context.get());
}

}  // namespace

TEST_CASE("the proxy's certificates stand for the host that was asked, and for no other") {
  auto made = proxy::certificates::make();
  REQUIRE(made.ok());
  auto& authority = **made;
  auto name = authority.server_for("a.test");
  auto address = authority.server_for("127.0.0.1");
  auto six = authority.server_for("[::1]");
  std::string long_name = std::string(60, 'a') + "." + std::string(60, 'b') + ".test";
  auto lengthy = authority.server_for(long_name);
  REQUIRE((name.ok() && address.ok() && six.ok() && lengthy.ok()));
  CHECK(verdict(authority.ca(), name->get(), "a.test", false) == X509_V_OK);
  CHECK(verdict(authority.ca(), address->get(), "127.0.0.1", true) == X509_V_OK);
  CHECK(verdict(authority.ca(), six->get(), "::1", true) == X509_V_OK);
  CHECK(verdict(authority.ca(), lengthy->get(), long_name, false) == X509_V_OK);
  CHECK(verdict(authority.ca(), name->get(), "b.test", false) == X509_V_ERR_HOSTNAME_MISMATCH);
  auto other = proxy::certificates::make();
  REQUIRE(other.ok());
  CHECK(verdict((*other)->ca(), name->get(), "a.test", false) != X509_V_OK);
}

TEST_CASE("a host's certificate is kept until it is about to expire, and only so many are") {
  auto now = std::chrono::system_clock::now();
  auto made = proxy::certificates::make([&] { return now; });
  REQUIRE(made.ok());
  auto& authority = **made;
  auto first = *authority.server_for("a.test");
  CHECK(*authority.server_for("a.test") == first);
  now += configs::proxy::certificate_life - configs::proxy::certificate_renewal - 1s;
  CHECK(*authority.server_for("a.test") == first);
  now += 1s;
  CHECK(*authority.server_for("a.test") != first);
}

TEST_CASE("a step's bundle has the CA while it runs, and is then as it was") {
  const std::string ca = "-----BEGIN CERTIFICATE-----\nours\n-----END CERTIFICATE-----\n";
  test::temp_dir root;
  auto bundle = root.path() / "etc/ssl/certs/ca-certificates.crt";
  std::filesystem::create_directories(bundle.parent_path());
  auto write = [&](const std::string& text) { std::ofstream(bundle) << text; };
  auto text = [&] { return read_file(bundle, 1 << 20).value(); };
  unique_fd fd(::open(root.path().c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));

  SECTION("left alone, its time too") {
    write("theirs");  // without a last line end
    timespec long_ago[] = {{1'000'000, 5}, {1'000'000, 5}};
    ::utimensat(AT_FDCWD, bundle.c_str(), long_ago, 0);
    auto trusted = proxy::trusted_ca::put(fd.get(), ca);
    REQUIRE(trusted.ok());
    CHECK(trusted->is_anywhere());
    CHECK(text().find("theirs\n\n# buildkit proxy CA begin\n" + ca) == 0);
    REQUIRE(trusted->take_out(fd.get()).ok());
    CHECK(text() == "theirs");
    struct stat st {};
    ::stat(bundle.c_str(), &st);
    CHECK(st.st_mtim.tv_sec == 1'000'000);
    CHECK(st.st_mtim.tv_nsec == 5);
  }
  SECTION("what the step added stays") {
    write("theirs\n");
    auto trusted = proxy::trusted_ca::put(fd.get(), ca);
    REQUIRE(trusted.ok());
    write(text() + "more\n");
    REQUIRE(trusted->take_out(fd.get()).ok());
    CHECK(text() == "theirs\nmore\n");
  }
  SECTION("copied to another place in it, it goes too") {
    write("theirs\n");
    auto trusted = proxy::trusted_ca::put(fd.get(), ca);
    REQUIRE(trusted.ok());
    write(ca + "theirs\n");
    REQUIRE(trusted->take_out(fd.get()).ok());
    CHECK(text() == "theirs\n");
  }
  SECTION("what the step removed or made something else of is its own affair") {
    write("theirs\n");
    auto trusted = proxy::trusted_ca::put(fd.get(), ca);
    REQUIRE(trusted.ok());
    std::filesystem::remove(bundle);
    CHECK(trusted->take_out(fd.get()).ok());
    ::mkfifo(bundle.c_str(), 0600);
    CHECK(trusted->take_out(fd.get()).ok());
  }
  SECTION("a link that leads out of the root leads nowhere") {
    test::temp_dir outside;
    std::ofstream(outside.path() / "bundle") << "outside\n";
    std::filesystem::create_symlink(outside.path() / "bundle", bundle);
    auto trusted = proxy::trusted_ca::put(fd.get(), ca);
    REQUIRE(trusted.ok());
    CHECK_FALSE(trusted->is_anywhere());
    CHECK(read_file(outside.path() / "bundle", 100).value() == "outside\n");
  }
}

TEST_CASE("what is remembered of a step's requests is bounded by its bytes, too") {
  proxy::recorder record;
  const std::string url = "http://x/" + std::string(100'000, 'u');
  for (int i = 0; i < 1'000; ++i) record.redirect(url + std::to_string(i), url);
  for (int i = 0; i < 1'000; ++i) record.request("GET", url, 200);
  CHECK(record.summary().size() < 2 * configs::proxy::recorded_bytes_max);
  auto all = record.captured();
  REQUIRE(all.gaps.size() == 1);
  CHECK(all.gaps[0].reason == "too_many_requests");
}
