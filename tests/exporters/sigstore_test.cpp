// Sigstore's bundles: what holds is taken, and each thing that does not hold is refused. By hand, against
// Sigstore's own conformance suite: KILN_SIGSTORE_SUITE=…/sigstore-conformance/test/assets/bundle-verify
// KILN_SIGSTORE_ROOT=trusted_root.json test_exporters [.conformance]
#include <catch2/catch.hpp>

#include <cstdlib>
#include <filesystem>
#include <functional>

#include "base/files.hpp"
#include "exporters/sigstore/verification.hpp"
#include "tests/support/little_sigstore.hpp"

using namespace kiln;
using namespace kiln::exporters;
using test::little_sigstore;

namespace {

const std::string artifact = "what is signed";

result<sigstore::signer> check(const nlohmann::json& bundle, const nlohmann::json& root,
                               const std::string& text = artifact) {
  KILN_TRY(auto trusted, sigstore::parse_trusted_root(json_text(root)));
  KILN_TRY(auto parsed, sigstore::parse_bundle(json_text(bundle)));
  return sigstore::verify(text, parsed, trusted);
}

std::string refused(const nlohmann::json& bundle, const nlohmann::json& root,
                    const std::string& text = artifact) {
  auto done = check(bundle, root, text);
  return done.ok() ? "" : done.error().message;
}

nlohmann::json& entry_of(nlohmann::json& bundle) { return bundle["verificationMaterial"]["tlogEntries"][0]; }

/// The same text with another last byte, in base64.
void spoil(nlohmann::json& text) {
  auto bytes = *base64_decode(text_value(text));
  bytes.back() = static_cast<char>(bytes.back() ^ 1);
  text = base64_encode(bytes);
}

}  // namespace

TEST_CASE("a signature tells whose it is, and who told when it was made") {
  little_sigstore s;
  auto who = check(s.sign(artifact), s.trusted_root());
  REQUIRE(who.ok());
  CHECK(who->times == 2);
  CHECK(who->log_times == 1);
  CHECK(who->fields["certificateIssuer"] == "CN=little authority,O=little.example");
  CHECK(who->fields["subjectAlternativeName"] == little_sigstore::owner);
  CHECK(who->fields["issuer"] == little_sigstore::issuer);
  CHECK(who->fields["githubWorkflowTrigger"] == "push");
  CHECK(who->fields["buildSignerURI"] == little_sigstore::owner);
  CHECK(who->fields["runnerEnvironment"].empty());

  auto bundle = s.sign(artifact, {.with_time = false});
  who = check(bundle, s.trusted_root());
  REQUIRE(who.ok());
  CHECK(who->times == 1);
  CHECK(who->log_times == 1);
}

TEST_CASE("statements that name the artifact, and logs of the second version, are taken as well") {
  little_sigstore s;
  CHECK(check(s.sign(artifact, {.as_statement = true}), s.trusted_root()).ok());
  auto who = check(s.sign(artifact, {.log_second_version = true}), s.trusted_root());
  REQUIRE(who.ok());
  CHECK(who->times == 1);  // such a log does not tell
  CHECK(who->log_times == 0);
  CHECK(check(s.sign(artifact, {.as_statement = true, .log_second_version = true}), s.trusted_root()).ok());
  CHECK(refused(s.sign(artifact, {.log_second_version = true, .with_time = false}), s.trusted_root()) ==
        "nobody who is trusted tells when it was signed");
}

TEST_CASE("what of a signature does not hold is refused, and said") {
  little_sigstore s, other;
  auto bundle = s.sign(artifact);
  auto root = s.trusted_root();
  REQUIRE(refused(bundle, root).empty());

  SECTION("another artifact") {
    CHECK(refused(bundle, root, "another") == "transparency log: the entry is of another artifact");
    auto statement = s.sign(artifact, {.as_statement = true});
    CHECK(refused(statement, root, "another") == "the signed statement does not name the artifact");
  }
  SECTION("another signature") {
    bundle["messageSignature"]["signature"] = base64_encode("another");
    CHECK(refused(bundle, root) == "transparency log: the entry is of another signature");
  }
  SECTION("another certificate") {
    bundle["verificationMaterial"]["certificate"] = s.sign(artifact)["verificationMaterial"]["certificate"];
    CHECK(refused(bundle, root) == "transparency log: the entry is of another certificate");
  }
  SECTION("the entry of another signature of the same artifact") {
    auto others = s.sign(artifact);
    entry_of(bundle) = entry_of(others);
    CHECK(refused(bundle, root) == "transparency log: the entry is of another signature");
  }
  SECTION("a certificate of nobody whom we trust") {
    root["certificateAuthorities"] = other.trusted_root()["certificateAuthorities"];
    CHECK(refused(bundle, root) ==
          "the certificate comes from nobody who is trusted, or was not valid when it was used");
  }
  SECTION("a certificate that is in no log of ours") {
    bundle = s.sign(artifact, {.logged_by = little_sigstore::make_key()});
    CHECK(refused(bundle, root) == "the certificate is in no log of certificates that is trusted");
  }
  SECTION("a certificate that had ended when it was used") {
    bundle = s.sign(artifact, {.life_s = -2});
    CHECK(refused(bundle, root) ==
          "the certificate was not valid when the transparency log took the signature");
    bundle = s.sign(artifact, {.log_second_version = true, .life_s = -2});
    CHECK(refused(bundle, root) ==
          "the certificate comes from nobody who is trusted, or was not valid when it was used");
  }
  SECTION("a log that is not ours") {
    root["tlogs"] = other.trusted_root()["tlogs"];
    CHECK(refused(bundle, root) == "the signature is in no transparency log that is trusted");
  }
  SECTION("a log whose time had not come, or was over") {
    root["tlogs"][0]["publicKey"]["validFor"] = {{"start", "2100-01-01T00:00:00Z"}};
    CHECK(refused(bundle, root) == "the signature is in no transparency log that is trusted");
    root["tlogs"][0]["publicKey"]["validFor"] = {{"start", "2020-01-01T00:00:00Z"},
                                                 {"end", "2020-01-02T00:00:00Z"}};
    CHECK(refused(bundle, root) == "the signature is in no transparency log that is trusted");
    root["tlogs"][0]["publicKey"].erase("validFor");
    CHECK(refused(bundle, root) == "trusted root: a log's key without the time from which it is good");
  }
  SECTION("a promise of the log for another time") {
    entry_of(bundle)["integratedTime"] = std::to_string(std::time(nullptr) - 30);
    CHECK(refused(bundle, root) == "the signature is in no transparency log that is trusted");
  }
  SECTION("a tree without the entry") {
    spoil(entry_of(bundle)["inclusionProof"]["hashes"][0]);
    CHECK(refused(bundle, root) == "transparency log: the tree does not have the entry");
  }
  SECTION("a tree of which the log knows nothing") {
    auto note = text_value(entry_of(bundle)["inclusionProof"]["checkpoint"]["envelope"]);
    note.replace(note.find("\n3\n"), 3, "\n4\n");
    entry_of(bundle)["inclusionProof"]["checkpoint"]["envelope"] = note;
    CHECK(refused(bundle, root) == "transparency log: the checkpoint is of another tree");
    entry_of(bundle)["inclusionProof"]["treeSize"] = "4";
    CHECK_FALSE(refused(bundle, root).empty());
  }
  SECTION("a checkpoint that somebody else signed") {
    auto& envelope = entry_of(bundle)["inclusionProof"]["checkpoint"]["envelope"];
    auto note = text_value(envelope);
    note = note.substr(0, note.find("\n\n") + 1);
    auto id = *base64_decode(text_value(entry_of(bundle)["logId"]["keyId"]));
    envelope = note + "\n\xe2\x80\x94 rekor.example " +
               base64_encode(id.substr(0, 4) + little_sigstore::signed_with(other.signature_log, note)) +
               "\n";
    CHECK(refused(bundle, root) == "transparency log: no signature of the checkpoint is the log's");
  }
  SECTION("no proof, or no entry") {
    entry_of(bundle).erase("inclusionProof");
    CHECK(refused(bundle, root) == "signature bundle: a log entry without proof");
    bundle["verificationMaterial"].erase("tlogEntries");
    CHECK(refused(bundle, root) == "the signature is in no transparency log that is trusted");
  }
  SECTION("the same entry twice, to count for two") {
    auto& entries = bundle["verificationMaterial"]["tlogEntries"];
    entries.push_back(nlohmann::json(entries[0]));
    CHECK(refused(bundle, root) == "an entry of a transparency log is there twice");
  }
  SECTION("a time that nobody whom we trust told does not count") {
    root["timestampAuthorities"] = other.trusted_root()["timestampAuthorities"];
    CHECK(check(bundle, root)->times == 1);
  }
  SECTION("a time of another signature does not count") {
    auto others = s.sign(artifact);
    bundle["verificationMaterial"]["timestampVerificationData"] =
        others["verificationMaterial"]["timestampVerificationData"];
    CHECK(check(bundle, root)->times == 1);
  }
  SECTION("a time told twice counts once") {
    auto& times = bundle["verificationMaterial"]["timestampVerificationData"]["rfc3161Timestamps"];
    times.push_back(nlohmann::json(times[0]));
    CHECK(check(bundle, root)->times == 2);
  }
}

TEST_CASE("what is no bundle is said to be none") {
  little_sigstore s;
  auto said = [&](const std::function<void(nlohmann::json&)>& change) {
    auto bundle = s.sign(artifact);
    change(bundle);
    auto parsed = sigstore::parse_bundle(json_text(bundle));
    return parsed.ok() ? "" : parsed.error().message;
  };
  CHECK(said([](nlohmann::json&) {}).empty());
  CHECK(said([](nlohmann::json& b) { b["mediaType"] = "x"; }) ==
        "signature bundle: mediaType \"x\" is none of versions 0.1 to 0.3");
  CHECK(said([](nlohmann::json& b) { b["verificationMaterial"].erase("certificate"); }) ==
        "signature bundle: it has no certificate; signatures by bare keys are not taken");
  CHECK(said([](nlohmann::json& b) { b.erase("messageSignature"); }) ==
        "signature bundle: it has no signature");
  CHECK(said([](nlohmann::json& b) { b["messageSignature"]["signature"] = "*"; }) ==
        "signature bundle: the signature is no base64");
  CHECK(said([](nlohmann::json& b) { b["messageSignature"]["messageDigest"]["algorithm"] = "SHA2_512"; }) ==
        "signature bundle: a digest of kind SHA2_512");
  CHECK(said([](nlohmann::json& b) { entry_of(b)["logIndex"] = "-1"; }) ==
        "signature bundle: logIndex is no number");
  CHECK(said([](nlohmann::json& b) {
          for (int i = 0; i < 40; ++i)
            b["verificationMaterial"]["tlogEntries"].push_back(nlohmann::json(entry_of(b)));
        }) == "signature bundle: more than 32 tlogEntries");
  CHECK_FALSE(sigstore::parse_bundle("{").ok());
  CHECK_FALSE(sigstore::parse_bundle("[]").ok());
  CHECK_FALSE(sigstore::parse_trusted_root("{}").ok());
}

TEST_CASE("Sigstore's conformance suite", "[.conformance]") {
  const char *suite = std::getenv("KILN_SIGSTORE_SUITE"), *root = std::getenv("KILN_SIGSTORE_ROOT");
  REQUIRE((suite != nullptr && root != nullptr));
  auto text = [](const std::filesystem::path& p) {
    auto bytes = read_file(p, 16 << 20);
    return bytes.ok() ? *bytes : std::string();
  };
  int cases = 0;
  for (const auto& d : std::filesystem::directory_iterator(suite)) {
    if (!d.is_directory()) continue;
    auto name = d.path().filename().string();
    // We take no signatures by bare keys.
    bool good = !name.ends_with("_fail") && !name.starts_with("managed-key");
    auto own = [&](const char* file, const std::filesystem::path& otherwise) {
      return std::filesystem::exists(d.path() / file) ? d.path() / file : otherwise;
    };
    INFO(name);
    auto trusted = sigstore::parse_trusted_root(text(own("trusted_root.json", root)));
    auto bundle = sigstore::parse_bundle(text(d.path() / "bundle.sigstore.json"));
    bool taken =
        trusted.ok() && bundle.ok() &&
        sigstore::verify(text(own("artifact", std::filesystem::path(suite) / "a.txt")), *bundle, *trusted)
            .ok();
    CHECK(taken == good);
    ++cases;
  }
  CHECK(cases > 60);
}
