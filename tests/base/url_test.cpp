#include <catch2/catch.hpp>

#include "base/url.hpp"

using namespace kiln;

namespace {

std::string normal(const std::string& text) {
  auto u = parse_url(text);
  return u.ok() ? u->str() : u.error().message;
}

}  // namespace

TEST_CASE("spellings of one address have one normal form") {
  for (auto spelling :
       {"https://example.com/a/b?q", "HTTPS://Example.COM/a/b?q", "https://example.com:443/a/b?q",
        "https://example.com:0443/a/b?q", "https://example.com./a/b?q", "https://user:pw@example.com/a/b?q",
        "https://example.com/a/./b?q", "https://example.com/x/../a/b?q", "https://example.com/%61/b?q",
        "https://example.com/x/%2E%2e/a/b?q", "https://ex%61mple.com/a/b?q", "https://example.com/a/b?%71",
        "https://example.com/a/b?q#part", "https:///example.com/a/b?q", "https://@example.com/a/b?q"}) {
    INFO(spelling);
    CHECK(normal(spelling) == "https://example.com/a/b?q");
  }
  CHECK(normal("http://example.com:80") == "http://example.com/");
  CHECK(normal("http://example.com:443/") == "http://example.com:443/");
  CHECK(normal("ssh://git@Example.com:22/a") == "ssh://example.com/a");
  CHECK(normal("git://example.com:9418/a") == "git://example.com/a");
  CHECK(normal("http://2130706433/") == "http://127.0.0.1/");
  CHECK(normal("http://2130706433./") == "http://127.0.0.1/");
  CHECK(normal("http://0x7f.1../") == "http://127.0.0.1/");
  CHECK(normal("http://0x7f.1:5000/") == "http://127.0.0.1:5000/");
  CHECK(normal("http://[0:0::1]/") == "http://[::1]/");
  for (auto mapped : {"[::ffff:127.0.0.1]", "[::FFFF:7f00:1]", "[0:0:0:0:0:ffff:7F00:0001]"}) {
    INFO(mapped);
    CHECK(normal("http://" + std::string(mapped) + ":5000/") == "http://127.0.0.1:5000/");
    CHECK(normal("ssh://git@" + std::string(mapped) + "/a") == "ssh://127.0.0.1/a");
  }
  CHECK(normal("http://[2001:DB8:0::0:1]/") == "http://[2001:db8::1]/");
  // What once was IPv4 in IPv6 is an address of its own, in one form.
  CHECK(normal("http://[::7f00:1]/") == normal("http://[0::127.0.0.1]/"));
  CHECK(normal("https://h/a%2fb/%c3%bc//c/") == "https://h/a%2Fb/%C3%BC//c/");
  CHECK(normal("https://h/%%36%31") == "https://h/%2561");
  CHECK(normal("https://h/a/..") == "https://h/");
  CHECK(normal("https://h/a/b/.") == "https://h/a/b/");
}

TEST_CASE("what is no URL, or one that nobody should follow, is refused") {
  for (auto bad : {"", "example.com/x", "https://", "https://a@b@c/", "https://h ost/", "https://h/a\nb",
                   "https://-oProxyCommand=x/",
                   "https://b\xc3\xbc"
                   "cher.example/",
                   "https://h:99999/", "https://h:x/", "https://[fe80::1%25eth0]/", "https://%2565vil/",
                   "https://%%42ee3"}) {
    INFO(bad);
    CHECK_FALSE(parse_url(bad).ok());
  }
  CHECK(parse_url("https://u:secret@h:x/").error().message.find("secret") == std::string::npos);
}

TEST_CASE("an origin is scheme, host and port, whoever signs in") {
  CHECK(same_origin("https://h/a", "https://u@H:443/b"));
  CHECK_FALSE(same_origin("https://h/", "http://h/"));
  CHECK_FALSE(same_origin("https://h/", "https://h:8443/"));
  CHECK_FALSE(same_origin("https://h/", "https://h.example/"));
  CHECK_FALSE(same_origin("nonsense", "nonsense"));
  CHECK(parse_url("https://u:p%40@h/")->user_info == "u:p%40");
}

TEST_CASE("urls are resolved and escaped") {
  CHECK(resolve_url("http://h:1/v2/a/blobs/uploads/", "/v2/x?y=1") == "http://h:1/v2/x?y=1");
  CHECK(resolve_url("http://h:1/v2/", "https://other/z") == "https://other/z");
  CHECK(host_of_url("https://h:12/x") == "h:12");
  CHECK(host_of_url("https://h/x") == "h");
  CHECK(url_escape("a b:c/ü") == "a%20b%3Ac%2F%C3%BC");
  CHECK(url_escape("a$b c", "$") == "a$b%20c");
  CHECK(query_escape("a b+c/ü") == "a+b%2Bc%2F%C3%BC");
}

TEST_CASE("escapes are undone, and what only looks like one stays or is refused") {
  CHECK(url_unescape("a%20b+c%C3%BC") == "a b+cü");
  CHECK(url_unescape("a%20b+c", true) == "a b c");
  CHECK(url_unescape("100%, %4, %zz, %41") == "100%, %4, %zz, A");
  CHECK(url_unescape_all("%41+", true) == "A ");
  for (auto text : {"%", "a%4", "%zz"}) CHECK_FALSE(url_unescape_all(text));
}
