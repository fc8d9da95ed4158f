#include "base/digest.hpp"

#include <catch2/catch.hpp>
#include <set>

using namespace kiln;

TEST_CASE("a digest parses only with a known algorithm and the right length") {
  auto good = sha256("hello");
  CHECK(good.str() == "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
  CHECK(digest::parse(good.str()).ok());
  for (auto bad : {"", "sha256", "sha256:", "sha256:abc", "md5:d41d8cd98f00b204e9800998ecf8427e",
                   "sha256:2CF24DBA5FB0A30E26E83B2AC5B9E29E1B161E5C1FA7425E73043362938B9824"}) {
    auto parsed = digest::parse(bad);
    REQUIRE_FALSE(parsed.ok());
    CHECK(parsed.error().code == errc::invalid_argument);
  }
}

TEST_CASE("hashing in pieces equals hashing at once, and the hasher starts anew") {
  sha256_hasher hasher;
  hasher.update("hel");
  hasher.update("lo");
  CHECK(hasher.finish() == sha256("hello"));
  CHECK(hasher.finish() == sha256(""));
}

TEST_CASE("identifiers are 25 base-36 characters and do not repeat") {
  std::set<std::string> seen;
  for (int i = 0; i < 1000; ++i) {
    auto id = new_id();
    CHECK(id.size() == 25);
    CHECK(id.find_first_not_of("0123456789abcdefghijklmnopqrstuvwxyz") == std::string::npos);
    seen.insert(id);
  }
  CHECK(seen.size() == 1000);
}
