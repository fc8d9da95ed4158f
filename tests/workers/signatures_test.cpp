#include "workers/sources/signatures.hpp"

#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>

#include <unistd.h>

using namespace kiln;
using namespace kiln::workers;

namespace fs = std::filesystem;

namespace {

// Made for this test with gpg, ssh-keygen and git; the private keys are gone. "old" was valid in 2020 only.
constexpr const char* key_one = R"(-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawX6/hYJKwYBBAHaRw8BAQdAfwQTheM25ApGM/dYoI5IlMIaru/ZZVNrTjzU
BAsmM3O0DW9uZUBraWxuLnRlc3SIkAQTFggAOBYhBK2dtEzwluX+VzLkUGWmCK/q
5l12BQJrBfr+AhsDBQsJCAcCBhUKCQgLAgQWAgMBAh4BAheAAAoJEGWmCK/q5l12
dWYA/R0e77gwlDI1IkKtKXIh6/XGbJvI45wOK/Tsak2wTO3WAQCD/ZQwIyP+F22/
LhMyjoQP1OZgjwFuqIY7Sq2esakSAQ==
=FeKC
-----END PGP PUBLIC KEY BLOCK-----
)";
constexpr const char* key_two = R"(-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawX6/hYJKwYBBAHaRw8BAQdA2+bs1Js77jkQpymgWT8wJN9neG8Fqzh5pZaN
9wRd6dK0DXR3b0BraWxuLnRlc3SIkAQTFggAOBYhBC5AlTfSvR8lN3UFCAVLr6ny
K4SfBQJrBfr+AhsDBQsJCAcCBhUKCQgLAgQWAgMBAh4BAheAAAoJEAVLr6nyK4Sf
NTcA/2Cbx611+t1UgbyqA8wwRt5u+AvDQTRinnzSaKIrbPulAQC/CzoEbyEPSxUZ
pUOJmrcqN8TUDMxVlkWWHmxtXcs2Bw==
=EkGo
-----END PGP PUBLIC KEY BLOCK-----
)";
constexpr const char* key_old = R"(-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEXgvhABYJKwYBBAHaRw8BAQdAQ+0+aFgx/EQ34BZL1fGS5xjfOYgrLetpUIQg
tBCnsO+0DW9sZEBraWxuLnRlc3SIlgQTFggAPhYhBJcSAribwGP3otkhjF7otCzl
8myZBQJeC+EAAhsDBQkB4TOABQsJCAcCBhUKCQgLAgQWAgMBAh4BAheAAAoJEF7o
tCzl8myZpLcBANk2QQgi8mmBwnan4bXNTEiG3mrlwJUMA3Scf2Mh8+l6AQDnPyHy
QE1Si2c8mBlHWtdIwGLAamjK16IPsx+Cd53ZAg==
=nCzm
-----END PGP PUBLIC KEY BLOCK-----
)";
constexpr const char* signed_text = R"(what is signed
)";
constexpr const char* by_one = R"(-----BEGIN PGP SIGNATURE-----

iIQEABYIACwWIQStnbRM8Jbl/lcy5FBlpgiv6uZddgUCawX6/g4cb25lQGtpbG4u
dGVzdAAKCRBlpgiv6uZddpJvAQD9+DmwV7E8h6f3JGKrTPshQrRCHn9khv9TsRej
t+H+/gD8DuH4gNMLtXghprLCof3goKPkiOb/ddnPgpuX4sPxhAk=
=e/vd
-----END PGP SIGNATURE-----
)";
constexpr const char* by_old = R"(-----BEGIN PGP SIGNATURE-----

iIQEABYIACwWIQSXEgK4m8Bj96LZIYxe6LQs5fJsmQUCXtRFAA4cb2xkQGtpbG4u
dGVzdAAKCRBe6LQs5fJsmcBrAQC+eAUllRDHev5/Nv64AVSPE35iJpNGDopevInK
TOQBKgEArwhNQ13gd/K8lbtRqw4YPnuPsu8kQcRnsm90TVbdpgo=
=tWI3
-----END PGP SIGNATURE-----
)";
constexpr const char* by_one_with_sha1 = R"(-----BEGIN PGP SIGNATURE-----

iIQEABYCACwWIQStnbRM8Jbl/lcy5FBlpgiv6uZddgUCawX6/w4cb25lQGtpbG4u
dGVzdAAKCRBlpgiv6uZddgpKAQDd78/qmxWranqvSFI/ydLBDF6GPvwlZcalPb8z
vwVTZgEAvL+0feyA4/doO4yqqZ6gB+V/XQPlV3U2yKSEK3dxbgs=
=WYmt
-----END PGP SIGNATURE-----
)";
constexpr const char* ssh_key =
    R"(ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMMkj3IwxV5Q6LUspOyzp0G84Nza2XZapmJb/CPabnFe kiln
)";
constexpr const char* pgp_commit = R"(tree f115c6d5cfb15ca1a72429900dcaca0fd1057951
author a <a@kiln.test> 1700000000 +0000
committer a <a@kiln.test> 1700000000 +0000
gpgsig -----BEGIN PGP SIGNATURE-----
 
 iIQEABYIACwWIQStnbRM8Jbl/lcy5FBlpgiv6uZddgUCawX6/w4cb25lQGtpbG4u
 dGVzdAAKCRBlpgiv6uZddt5pAP9f7uFO5llmxJ0ZGsjE0yIUxaZORjigQZPL8X45
 7qeHLQD/V4Z4xLfbMrxe23nf6wcLUcKlEKrzCcQ/t6ihMVvRhwY=
 =Db2D
 -----END PGP SIGNATURE-----

signed with PGP
)";
constexpr const char* pgp_tag = R"(object e140e0c4735b533e9fb21b75f4c8927ed9255915
type commit
tag v1
tagger a <a@kiln.test> 1700000000 +0000

a tag
-----BEGIN PGP SIGNATURE-----

iIQEABYIACwWIQStnbRM8Jbl/lcy5FBlpgiv6uZddgUCawX6/w4cb25lQGtpbG4u
dGVzdAAKCRBlpgiv6uZddqPkAQCSJ1ldzo6qSTiVJaPKBNYfXdTX+c4yuZgX5zF5
sY5dSQD8DAUN1iqx893ZAey1DVY1y4boAjv9fcODRiG0BchYeQs=
=vJVW
-----END PGP SIGNATURE-----
)";
constexpr const char* ssh_commit = R"(tree f115c6d5cfb15ca1a72429900dcaca0fd1057951
parent e140e0c4735b533e9fb21b75f4c8927ed9255915
author a <a@kiln.test> 1700000000 +0000
committer a <a@kiln.test> 1700000000 +0000
gpgsig -----BEGIN SSH SIGNATURE-----
 U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgwySPcjDFXlDotSyk7LOnQbzg3N
 rZdlqmYlv8I9pucV4AAAADZ2l0AAAAAAAAAAZzaGE1MTIAAABTAAAAC3NzaC1lZDI1NTE5
 AAAAQHxs9NqY1mWfsErJ6LzEYwyOvdMWLlPH1ZADM56P5roJsAABmOYt0h+YfItxW8XVdz
 qJzOwYjsv8uqCIvevicQs=
 -----END SSH SIGNATURE-----

signed with SSH
)";

struct scratch {
  fs::path path;
  int used = 0;
  scratch() {
    std::string name = (fs::temp_directory_path() / "kiln-signatures-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  ~scratch() { fs::remove_all(path); }
  fs::path next() { return path / std::to_string(++used); }
};

/// "" when the signature is good, else what is wrong with it.
std::string verdict(status s) { return s.ok() ? "" : s.error().message; }

struct pgp_check : scratch {
  std::string of(const std::string& text, const std::string& signature, signature_rules rules) {
    std::ofstream(path / "text") << text;
    auto directory = next();
    auto s = verify_pgp(path / "text", signature, rules, directory, {});
    CHECK_FALSE(fs::exists(directory));
    return verdict(std::move(s));
  }
};

using Catch::Matchers::Contains;

}  // namespace

TEST_CASE("a detached PGP signature by one of the keys is good, over the very bytes only") {
  pgp_check check;
  CHECK(check.of(signed_text, by_one, {key_one}) == "");
  CHECK(check.of(signed_text, by_one, {std::string(key_two) + "\n" + key_one}) == "");
  CHECK_THAT(check.of(signed_text, by_one, {key_two}), Contains("unknown entity"));
  CHECK_THAT(check.of("something else", by_one, {key_one}), Contains("what was signed is something else"));
  CHECK_THAT(check.of(signed_text, "no signature", {key_one}), Contains("no signature packet found"));
  CHECK_THAT(check.of(signed_text, by_one, {"no key"}), Contains("failed to read armored public key"));
}

TEST_CASE("weak digests are refused, expired keys where that is asked for") {
  pgp_check check;
  CHECK_THAT(check.of(signed_text, by_one_with_sha1, {key_one}), !Contains("something else"));
  CHECK(check.of(signed_text, by_one_with_sha1, {key_one}) != "");
  CHECK(check.of(signed_text, by_old, {key_old}) == "");
  CHECK_THAT(check.of(signed_text, by_old, {key_old, true}), Contains("key expired"));
}

TEST_CASE("what gpg reports decides") {
  std::string valid = "[GNUPG:] VALIDSIG F 2024-01-01 1704067200 0 4 0 ";
  CHECK(check_pgp_report(valid + "1 8 00 F\n", false).ok());
  CHECK_THAT(verdict(check_pgp_report(valid + "17 8 00 F\n", false)), Contains("public key algorithm 17"));
  CHECK_THAT(verdict(check_pgp_report(valid + "1 2 00 F\n", false)), Contains("hash 2"));
  CHECK_THAT(verdict(check_pgp_report("[GNUPG:] REVKEYSIG K who\n" + valid + "1 8 00 F\n", false)),
             Contains("revoked"));
  CHECK_FALSE(check_pgp_report("", false).ok());
}

TEST_CASE("git commits and tags are checked against PGP and SSH keys") {
  scratch s;
  auto check = [&](std::string object, std::string keys) {
    return verdict(verify_git_object(object, {std::move(keys)}, s.next(), {}));
  };
  CHECK(check(pgp_commit, key_one) == "");
  CHECK(check(pgp_tag, key_one) == "");
  CHECK(check(ssh_commit, ssh_key) == "");
  CHECK_THAT(check(pgp_tag, key_two), Contains("unknown entity"));
  std::string other = ssh_key;
  other[other.find("AAAAI") + 20] ^= 1;
  CHECK_THAT(check(ssh_commit, other), Contains("failed to verify ssh signature"));
  CHECK_THAT(check(ssh_commit, key_one), Contains("failed to parse ssh public key"));
  for (std::string forged : {pgp_commit, pgp_tag, ssh_commit}) {
    forged.insert(forged.find("1700000000"), "1");
    CHECK(check(forged, forged.find("SSH") == forged.npos ? key_one : ssh_key) != "");
  }
  CHECK(check("tree x\nauthor a\ncommitter a\n\nplain\n", key_one) == "git object is not signed");
}

TEST_CASE("a signed object is taken apart into what was signed and the signature") {
  auto commit =
      split_signed_object("tree t\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n abc\n -----END\nafter x\n\nm\n");
  CHECK(commit.payload == "tree t\nafter x\n\nm\n");
  CHECK(commit.signature == "-----BEGIN PGP SIGNATURE-----\n\nabc\n-----END\n");
  auto tag = split_signed_object("object o\n\nm\n-----BEGIN SSH SIGNATURE-----\nabc\n");
  CHECK(tag.payload == "object o\n\nm\n");
  CHECK(tag.signature == "-----BEGIN SSH SIGNATURE-----\nabc\n");
  // Only a tag ends with its signature.
  CHECK(split_signed_object("tree t\n\n-----BEGIN PGP SIGNATURE-----\n").signature.empty());
}
