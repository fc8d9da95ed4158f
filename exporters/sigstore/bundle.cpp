#include "exporters/sigstore/bundle.hpp"

#include "base/base64.hpp"
#include "base/json_text.hpp"
#include "base/numbers.hpp"

namespace kiln::exporters::sigstore {
namespace {

using json = nlohmann::json;

constexpr std::size_t parts_max = 32;  // entries, times, certificates

error bad(std::string why) {
  return make_error(errc::invalid_argument, "signature bundle: " + std::move(why));
}

const json& part(const json& object, const char* name) {
  static const json none;
  const auto* found = member_of(object, name);
  return found ? *found : none;
}

/// Protobuf's JSON: bytes are base64; 64-bit integers are texts, or numbers.
result<std::string> bytes_of(const json& value, const char* what) {
  auto bytes = base64_decode(text_value(value));
  if (!bytes) return bad(std::string(what) + " is no base64");
  return *std::move(bytes);
}

result<std::int64_t> number_of(const json& object, const char* name) {
  const auto& value = part(object, name);
  if (value.is_null()) return std::int64_t{0};
  auto number = value.is_string() ? parse_int(text_value(value)) : integer_value(value);
  if (!number || *number < 0) return bad(std::string(name) + " is no number");
  return *number;
}

result<std::vector<json>> list_of(const json& object, const char* name) {
  const auto& list = part(object, name);
  if (!list.is_array()) return std::vector<json>();
  if (list.size() > parts_max) return bad("more than " + std::to_string(parts_max) + " " + name);
  return std::vector<json>(list.begin(), list.end());
}

result<inclusion_proof> read_proof(const json& j) {
  inclusion_proof out;
  KILN_TRY(out.index, number_of(j, "logIndex"));
  KILN_TRY(out.tree_size, number_of(j, "treeSize"));
  KILN_TRY(out.root, bytes_of(part(j, "rootHash"), "rootHash"));
  out.checkpoint = text_member(part(j, "checkpoint"), "envelope");
  if (out.checkpoint.empty()) return bad("an inclusion proof without checkpoint");
  const auto& hashes = part(j, "hashes");
  if (hashes.is_array() && hashes.size() <= 64)
    for (const auto& h : hashes) {
      KILN_TRY(auto bytes, bytes_of(h, "a hash"));
      out.hashes.push_back(std::move(bytes));
    }
  return out;
}

result<log_entry> read_entry(const json& j) {
  log_entry out;
  KILN_TRY(out.log_id, bytes_of(part(part(j, "logId"), "keyId"), "keyId"));
  KILN_TRY(out.index, number_of(j, "logIndex"));
  KILN_TRY(out.integrated_s, number_of(j, "integratedTime"));
  KILN_TRY(out.body, bytes_of(part(j, "canonicalizedBody"), "canonicalizedBody"));
  KILN_TRY(out.promise,
           bytes_of(part(part(j, "inclusionPromise"), "signedEntryTimestamp"), "signedEntryTimestamp"));
  if (const auto& proof = part(j, "inclusionProof"); proof.is_object()) {
    KILN_TRY(out.proof, read_proof(proof));
  }
  return out;
}

/// 1, 2 or 3 of "application/vnd.dev.sigstore.bundle+json;version=0.1" or "….bundle.v0.3+json".
std::optional<int> version_of(const std::string& media_type) {
  for (int n = 1; n <= 3; ++n) {
    auto minor = std::to_string(n);
    if (media_type == "application/vnd.dev.sigstore.bundle+json;version=0." + minor ||
        media_type == "application/vnd.dev.sigstore.bundle.v0." + minor + "+json")
      return n;
  }
  return {};
}

status read_certificates(const json& material, bundle& out) {
  if (const auto& one = part(material, "certificate"); one.is_object()) {
    KILN_TRY(out.certificate, bytes_of(part(one, "rawBytes"), "the certificate"));
  }
  KILN_TRY(auto chain, list_of(part(material, "x509CertificateChain"), "certificates"));
  for (const auto& c : chain) {
    KILN_TRY(auto der, bytes_of(part(c, "rawBytes"), "a certificate"));
    (out.certificate.empty() ? out.certificate : out.intermediates.emplace_back()) = std::move(der);
  }
  if (out.certificate.empty()) return bad("it has no certificate; signatures by bare keys are not taken");
  return {};
}

status read_signature(const json& j, bundle& out) {
  if (const auto& message = part(j, "messageSignature"); message.is_object()) {
    const auto& said = part(message, "messageDigest");
    if (said.is_object()) {
      if (auto kind = text_member(said, "algorithm"); kind != "SHA2_256")
        return bad("a digest of kind " + kind);
      KILN_TRY(out.message_sha256, bytes_of(part(said, "digest"), "the digest"));
    }
    KILN_TRY(out.signature, bytes_of(part(message, "signature"), "the signature"));
  } else if (const auto& statement = part(j, "dsseEnvelope"); statement.is_object()) {
    KILN_TRY(auto signatures, list_of(statement, "signatures"));
    if (signatures.size() != 1)
      return bad("an envelope with " + std::to_string(signatures.size()) + " signatures");
    KILN_TRY(auto payload, bytes_of(part(statement, "payload"), "the payload"));
    out.statement = envelope{text_member(statement, "payloadType"), std::move(payload)};
    KILN_TRY(out.signature, bytes_of(part(signatures[0], "sig"), "the signature"));
  }
  if (out.signature.empty()) return bad("it has no signature");
  return {};
}

}  // namespace

std::string pre_authentication(const envelope& e) {
  return "DSSEv1 " + std::to_string(e.type.size()) + " " + e.type + " " + std::to_string(e.payload.size()) +
         " " + e.payload;
}

result<bundle> parse_bundle(std::string_view text) {
  KILN_TRY(auto j, parse_json(text));
  auto version = version_of(text_member(j, "mediaType"));
  if (!version)
    return bad("mediaType \"" + text_member(j, "mediaType") + "\" is none of versions 0.1 to 0.3");
  bundle out;
  const auto& material = part(j, "verificationMaterial");
  KILN_CHECK(read_certificates(material, out));
  KILN_TRY(auto entries, list_of(material, "tlogEntries"));
  for (const auto& e : entries) {
    KILN_TRY(auto entry, read_entry(e));
    if (*version == 1 ? entry.promise.empty() : !entry.proof)
      return bad(*version == 1 ? "a log entry without promise" : "a log entry without proof");
    out.entries.push_back(std::move(entry));
  }
  KILN_TRY(auto times, list_of(part(material, "timestampVerificationData"), "rfc3161Timestamps"));
  for (const auto& t : times) {
    KILN_TRY(auto bytes, bytes_of(part(t, "signedTimestamp"), "a timestamp"));
    out.timestamps.push_back(std::move(bytes));
  }
  KILN_CHECK(read_signature(j, out));
  return out;
}

}  // namespace kiln::exporters::sigstore
