#include "exporters/sigstore/transparency.hpp"

#include <algorithm>

#include "base/base64.hpp"
#include "base/json_text.hpp"
#include "base/numbers.hpp"
#include "base/text.hpp"
#include "base/url.hpp"

namespace kiln::exporters::sigstore {
namespace {

error denied(std::string why) {
  return make_error(errc::permission_denied, "transparency log: " + std::move(why));
}

/// What the log signs when it promises to take an entry: canonical JSON.
std::string promised(const log_entry& e) {
  return "{\"body\":\"" + base64_encode(e.body) + "\",\"integratedTime\":" + std::to_string(e.integrated_s) +
         ",\"logID\":\"" + to_hex(e.log_id) + "\",\"logIndex\":" + std::to_string(e.index) + "}";
}

/// The root of the tree that has this leaf at the proof's index.
std::optional<std::string> root_over(std::string_view leaf, const inclusion_proof& proof) {
  if (proof.index >= proof.tree_size) return {};
  auto hash = sha256_bytes(std::string(1, '\0') + std::string(leaf));
  auto at = proof.index, last = proof.tree_size - 1;
  for (const auto& beside : proof.hashes) {
    if (last == 0) return {};
    bool left = (at & 1) == 0 && at != last;
    hash = sha256_bytes("\1" + (left ? hash + beside : beside + hash));
    for (; !left && (at & 1) == 0 && at != 0; at >>= 1) last >>= 1;
    at >>= 1;
    last >>= 1;
  }
  if (last != 0) return {};
  return hash;
}

/// "ORIGIN\nSIZE\nROOT\n…\n\n— NAME SIGNATURE\n": whether the log signed that its tree is this one.
status check_checkpoint(const inclusion_proof& proof, const trusted_log& log) {
  auto end = proof.checkpoint.find("\n\n");
  if (end == std::string::npos) return denied("the checkpoint has no signatures");
  auto text = std::string_view(proof.checkpoint).substr(0, end + 1);
  auto lines = split(std::string(text), '\n');
  if (lines.size() < 3) return denied("the checkpoint is too short");
  auto size = parse_int(lines[1]);
  auto root = base64_decode(lines[2]);
  if (!size || *size != proof.tree_size || !root || *root != proof.root)
    return denied("the checkpoint is of another tree");
  // Version 1 of the log has a number behind its name; the name of others is the host's.
  auto url = parse_url(log.url);
  if (lines[0].find(" - ") == std::string::npos && (!url.ok() || lines[0] != url->host))
    return denied("the checkpoint is of the log \"" + lines[0] + "\"");
  for (const auto& line : split(proof.checkpoint.substr(end + 2), '\n')) {
    auto signature = base64_decode(line.substr(line.rfind(' ') + 1));
    constexpr std::size_t hint_size = 4;  // of the key
    if (!line.starts_with("\xe2\x80\x94 ") || !signature || signature->size() <= hint_size ||
        signature->substr(0, hint_size) != log.id.substr(0, hint_size))
      continue;
    if (signed_by(log.key.get(), text, std::string_view(*signature).substr(hint_size))) return {};
  }
  return denied("no signature of the checkpoint is the log's");
}

/// What an entry says of itself, whichever kind it is of; bytes raw.
struct subject {
  std::string signature, certificate;  // DER
  std::string sha256_hex;              // of the artifact, or of the statement that names it
};

std::string raw(const nlohmann::json& object, const char* name) {
  return base64_decode(text_member(object, name)).value_or("");
}

std::string der_of_pem(const std::string& pem) {
  auto certificate = certificate_of_pem(pem);
  if (!certificate) return {};
  unsigned char* bytes = nullptr;
  int size = i2d_X509(certificate.get(), &bytes);
  std::string out(reinterpret_cast<char*>(bytes), static_cast<std::size_t>(std::max(size, 0)));
  OPENSSL_free(bytes);
  return out;
}

const nlohmann::json& inside(const nlohmann::json& object, std::initializer_list<const char*> path) {
  static const nlohmann::json none;
  const auto* at = &object;
  for (const char* name : path) {
    at = at->is_array() ? (at->size() == 1 ? member_of(at->front(), name) : nullptr) : member_of(*at, name);
    if (at == nullptr) return none;
  }
  return *at;
}

std::string hash_of(const nlohmann::json& j) {
  return text_member(j, "algorithm") == "sha256" ? text_member(j, "value") : "";
}

std::optional<subject> subject_of(const log_entry& e) {
  auto j = json_or_null(e.body);
  auto kind = text_member(j, "kind") + " " + text_member(j, "apiVersion");
  const auto& spec = inside(j, {"spec"});
  if (kind == "hashedrekord 0.0.1")
    return subject{raw(inside(spec, {"signature"}), "content"),
                   der_of_pem(raw(inside(spec, {"signature", "publicKey"}), "content")),
                   hash_of(inside(spec, {"data", "hash"}))};
  if (kind == "hashedrekord 0.0.2") {
    const auto& v2 = inside(spec, {"hashedRekordV002"});
    return subject{raw(inside(v2, {"signature"}), "content"),
                   raw(inside(v2, {"signature", "verifier", "x509Certificate"}), "rawBytes"),
                   to_hex(raw(inside(v2, {"data"}), "digest"))};
  }
  if (kind == "dsse 0.0.1") {
    const auto& signatures = inside(spec, {"signatures"});
    if (!signatures.is_array() || signatures.size() != 1) return {};
    return subject{raw(signatures[0], "signature"), der_of_pem(raw(signatures[0], "verifier")),
                   hash_of(inside(spec, {"payloadHash"}))};
  }
  if (kind == "intoto 0.0.2") {
    const auto& signatures = inside(spec, {"content", "envelope", "signatures"});
    if (!signatures.is_array() || signatures.size() != 1) return {};
    return subject{base64_decode(raw(signatures[0], "sig")).value_or(""),
                   der_of_pem(raw(signatures[0], "publicKey")),
                   hash_of(inside(spec, {"content", "payloadHash"}))};
  }
  return {};
}

}  // namespace

const trusted_log* log_of(const log_entry& e, const trusted_root& trusted) {
  for (const auto& log : trusted.signature_logs) {
    if (log.id != e.log_id) continue;
    if (e.promise.empty()) return e.proof ? &log : nullptr;
    if (log.when.covers(e.integrated_s) && signed_by(log.key.get(), promised(e), e.promise)) return &log;
  }
  return nullptr;
}

status check_inclusion(const log_entry& e, const trusted_log& log) {
  if (!e.proof) return {};
  auto root = root_over(e.body, *e.proof);
  if (!root || *root != e.proof->root) return denied("the tree does not have the entry");
  return check_checkpoint(*e.proof, log);
}

status check_subject(const log_entry& e, const bundle& b, const std::string& artifact_sha256) {
  auto said = subject_of(e);
  if (!said) return denied("an entry of a kind that is not known");
  if (said->signature != b.signature) return denied("the entry is of another signature");
  if (said->certificate != b.certificate) return denied("the entry is of another certificate");
  bool pre_authenticated = b.statement && text_member(json_or_null(e.body), "apiVersion") == "0.0.2" &&
                           text_member(json_or_null(e.body), "kind") == "hashedrekord";
  auto wanted = !b.statement        ? artifact_sha256
                : pre_authenticated ? to_hex(sha256_bytes(pre_authentication(*b.statement)))
                                    : to_hex(sha256_bytes(b.statement->payload));
  if (said->sha256_hex != wanted) return denied("the entry is of another artifact");
  return {};
}

}  // namespace kiln::exporters::sigstore
