// Whose tokens a session may use beside its own.
#include <catch2/catch.hpp>

#include <ctime>
#include <memory>

#include <openssl/evp.h>

#include "auth.pb.h"
#include "base/digest.hpp"
#include "distribution/authorizer.hpp"
#include "tests/support/fake_client.hpp"
#include "tests/support/http_server.hpp"

using namespace kiln;
using namespace kiln::distribution;

namespace {

namespace pba = moby::filesync::v1;
using session_ptr = std::shared_ptr<test::fake_session>;
using key_ptr = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

key_ptr key_of_seed(char seed) {
  std::string bytes(32, seed);
  return {EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr,
                                       reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()),
          &EVP_PKEY_free};
}

std::string public_of(EVP_PKEY* key) {
  std::string out(32, '\0');
  std::size_t size = out.size();
  EVP_PKEY_get_raw_public_key(key, reinterpret_cast<unsigned char*>(out.data()), &size);
  return out;
}

std::string sign(EVP_PKEY* key, const std::string& text) {
  std::string out(64, '\0');
  std::size_t size = out.size();
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> c(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  EVP_DigestSignInit(c.get(), nullptr, nullptr, nullptr, key);
  EVP_DigestSign(c.get(), reinterpret_cast<unsigned char*>(out.data()), &size,
                 reinterpret_cast<const unsigned char*>(text.data()), text.size());
  return out + text;
}

/// Says it has the key of one seed, and signs by that of another; counts the tokens it gets.
session_ptr authority(const std::string& id, char says, char signs, int& fetched) {
  auto s = std::make_shared<test::fake_session>(id);
  s->on_call("/moby.filesync.v1.Auth/GetTokenAuthority", [=](auto, auto&) -> result<std::string> {
    pba::GetTokenAuthorityResponse r;
    r.set_publickey(public_of(key_of_seed(says).get()));
    return r.SerializeAsString();
  });
  s->on_call("/moby.filesync.v1.Auth/VerifyTokenAuthority",
             [=](std::string_view bytes, auto&) -> result<std::string> {
               pba::VerifyTokenAuthorityRequest req;
               req.ParseFromString(std::string(bytes));
               CHECK(req.payload().size() == 32);
               CHECK(req.salt().size() == 32);
               pba::VerifyTokenAuthorityResponse r;
               r.set_signed_(sign(key_of_seed(signs).get(), req.payload()));
               return r.SerializeAsString();
             });
  s->on_call("/moby.filesync.v1.Auth/FetchToken", [=, &fetched](auto, auto&) -> result<std::string> {
    pba::FetchTokenResponse r;
    r.set_token("token-" + std::to_string(++fetched) + "-of-" + id);
    r.set_expiresin(300);
    return r.SerializeAsString();
  });
  return s;
}

session_ptr with_password(const std::string& id, const std::string& secret) {
  auto s = std::make_shared<test::fake_session>(id);
  s->on_call("/moby.filesync.v1.Auth/Credentials", [=](auto, auto&) -> result<std::string> {
    pba::CredentialsResponse r;
    r.set_username("kiln");
    r.set_secret(secret);
    return r.SerializeAsString();
  });
  return s;
}

struct asking {
  transport wire{4};
  authorizer who{wire};
  test::fake_directory sessions;
  std::string host = "registry.test";
  std::string realm = "https://registry.test/token";
  const std::vector<std::string> scopes{"repository:x:pull"};

  /// What a session sends after the registry has asked it, if it has to.
  std::string header(const session_ptr& s) {
    test::fake_directory one;
    one.add(s);
    auto job = one.job();
    auto sent = who.authorize(host, scopes, job, nullptr);
    REQUIRE(sent.ok());
    if (!sent->empty()) return *sent;
    response asked;
    asked.status = 401;
    asked.url = "https://registry.test/v2/";
    asked.headers.emplace("www-authenticate", "Bearer realm=\"" + realm + "\",service=\"svc\"");
    REQUIRE(who.challenged(host, asked, "", scopes, job, nullptr).ok());
    sent = who.authorize(host, scopes, job, nullptr);
    INFO((sent.ok() ? "" : sent.error().message));
    REQUIRE(sent.ok());
    return *sent;
  }
};

}  // namespace

TEST_CASE("a session of the same client uses the tokens there are, when it proves to be that client") {
  asking a;
  int fetched = 0;
  CHECK(a.header(authority("one", 'k', 'k', fetched)) == "Bearer token-1-of-one");
  CHECK(a.header(authority("two", 'k', 'k', fetched)) == "Bearer token-1-of-one");
  CHECK(fetched == 1);
  // Who only says so, or is somebody else, gets tokens of its own.
  CHECK(a.header(authority("liar", 'k', 'x', fetched)) == "Bearer token-2-of-liar");
  CHECK(a.header(authority("stranger", 's', 's', fetched)) == "Bearer token-3-of-stranger");
}

TEST_CASE("sessions with equal credentials share tokens, others do not") {
  test::http_server tokens([](const test::http_request& r) {
    return test::http_answer{200, {}, R"({"token":")" + sha256(r.header("authorization")).str() + R"("})"};
  });
  asking a;
  a.realm = tokens.url() + "/token";
  a.host = "127.0.0.1";
  auto first = a.header(with_password("one", "secret"));
  CHECK(a.header(with_password("two", "secret")) == first);
  CHECK(tokens.count("GET", "/token") == 1);
  CHECK(a.header(with_password("three", "other")) != first);
  CHECK(tokens.count("GET", "/token") == 2);
}

TEST_CASE("a token that a client kept is as old as it says") {
  asking a;
  int fetched = 0;
  auto s = authority("one", 'k', 'k', fetched);
  s->on_call("/moby.filesync.v1.Auth/FetchToken", [&](auto, auto&) -> result<std::string> {
    pba::FetchTokenResponse r;
    r.set_token("token-" + std::to_string(++fetched));
    r.set_expiresin(300);
    r.set_issuedat(std::time(nullptr) - 299);
    return r.SerializeAsString();
  });
  CHECK(a.header(s) == "Bearer token-1");
  CHECK(a.header(s) == "Bearer token-2");
}
