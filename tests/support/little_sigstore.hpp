// A Sigstore in a process: an authority that gives out certificates, a log of them, a log of signatures, an
// authority for times, and a signer who uses them. Written beside exporters/sigstore, not with it.
#pragma once

#include <openssl/ct.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ts.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <ctime>
#include <memory>
#include <stdexcept>
#include <string>

#include "base/base64.hpp"
#include "base/digest.hpp"
#include "base/json_text.hpp"
#include "base/text.hpp"
#include "base/time_text.hpp"

namespace kiln::test {

class little_sigstore {
 public:
  using key = std::shared_ptr<EVP_PKEY>;
  using certificate = std::shared_ptr<X509>;

  static constexpr const char* owner =
      "https://github.com/some/repo/.github/workflows/build.yml@refs/heads/main";
  static constexpr const char* issuer = "https://token.actions.githubusercontent.com";
  static constexpr const char* log_url = "https://rekor.example";

  key authority_key = make_key(), certificate_log = make_key(), signature_log = make_key(),
      time_key = make_key(), time_root_key = make_key();
  certificate authority = make_root("little authority", authority_key);
  certificate time_root = make_root("little times", time_root_key);
  certificate time_certificate = make_time_certificate();

  /// trusted_root.json.
  nlohmann::json trusted_root() const {
    auto log = [](const key& k, const char* url) {
      return nlohmann::json{{"baseUrl", url},
                            {"hashAlgorithm", "SHA2_256"},
                            {"publicKey",
                             {{"rawBytes", base64_encode(public_der(k))},
                              {"keyDetails", "PKIX_ECDSA_P256_SHA_256"},
                              {"validFor", {{"start", "2020-01-01T00:00:00Z"}}}}},
                            {"logId", {{"keyId", base64_encode(hash(public_der(k)))}}}};
    };
    auto chain = [](const char* url, std::initializer_list<certificate> certificates) {
      nlohmann::json list = nlohmann::json::array();
      for (const auto& c : certificates) list.push_back({{"rawBytes", base64_encode(der(c))}});
      return nlohmann::json{{"uri", url},
                            {"certChain", {{"certificates", list}}},
                            {"validFor", {{"start", "2020-01-01T00:00:00Z"}}}};
    };
    nlohmann::json out;
    out["mediaType"] = "application/vnd.dev.sigstore.trustedroot+json;version=0.1";
    out["tlogs"] = {log(signature_log, log_url)};
    out["ctlogs"] = {log(certificate_log, "https://ctfe.example")};
    out["certificateAuthorities"] = {chain("https://fulcio.example", {authority})};
    out["timestampAuthorities"] = {chain("https://times.example", {time_certificate, time_root})};
    return out;
  }

  struct options {
    bool as_statement = false;  // a DSSE envelope that names the artifact
    bool log_second_version = false;
    bool with_time = true;      // of the authority
    std::int64_t age_s = 60;    // of the signature
    std::int64_t life_s = 600;  // of the certificate, from the signature on
    key logged_by = {};         // another log of certificates
  };

  /// A bundle of version 0.3.
  nlohmann::json sign(const std::string& artifact, options o) const {
    auto now = std::time(nullptr) - o.age_s;
    auto mine = make_key();
    auto leaf = make_leaf(mine, now - 5, now + o.life_s, o.logged_by ? o.logged_by : certificate_log);
    std::string payload = json_text(
                    nlohmann::json{{"_type", "https://in-toto.io/Statement/v1"},
                                   {"subject", {{{"name", "x"}, {"digest", {{"sha256", hex(artifact)}}}}}},
                                   {"predicateType", "x"},
                                   {"predicate", nullptr}}),
                type = "application/vnd.in-toto+json";
    auto text = !o.as_statement ? artifact
                                : "DSSEv1 " + std::to_string(type.size()) + " " + type + " " +
                                      std::to_string(payload.size()) + " " + payload;
    auto signature = signed_with(mine, text);
    nlohmann::json out, &material = out["verificationMaterial"];
    out["mediaType"] = "application/vnd.dev.sigstore.bundle.v0.3+json";
    material["certificate"]["rawBytes"] = base64_encode(der(leaf));
    if (o.as_statement)
      out["dsseEnvelope"] = {{"payload", base64_encode(payload)},
                             {"payloadType", type},
                             {"signatures", {{{"sig", base64_encode(signature)}}}}};
    else
      out["messageSignature"] = {
          {"messageDigest", {{"algorithm", "SHA2_256"}, {"digest", base64_encode(hash(artifact))}}},
          {"signature", base64_encode(signature)}};
    auto body = o.log_second_version ? second_body(text, signature, leaf)
                : o.as_statement     ? statement_body(payload, signature, leaf)
                                     : first_body(artifact, signature, leaf);
    material["tlogEntries"] = {entry(body, now, o.log_second_version)};
    if (o.with_time)
      material["timestampVerificationData"]["rfc3161Timestamps"] = {
          {{"signedTimestamp", base64_encode(time_response(signature, now))}}};
    return out;
  }
  nlohmann::json sign(const std::string& artifact) const { return sign(artifact, options{}); }

  static key make_key() { return {EVP_EC_gen("P-256"), EVP_PKEY_free}; }
  static std::string signed_with(const key& k, const std::string& text) {
    std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), EVP_MD_CTX_free);
    std::size_t size = 256;
    std::string out(size, '\0');
    EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, k.get());
    EVP_DigestSign(context.get(), bytes(out), &size, bytes(text), text.size());
    out.resize(size);
    return out;
  }

 private:
  static unsigned char* bytes(const std::string& s) {
    return reinterpret_cast<unsigned char*>(const_cast<char*>(s.data()));
  }
  static std::string hash(const std::string& text) {
    std::string out(32, '\0');
    EVP_Digest(text.data(), text.size(), bytes(out), nullptr, EVP_sha256(), nullptr);
    return out;
  }
  static std::string hex(const std::string& text) { return std::string(sha256(text).hex()); }
  template <class T, class Encode>
  static std::string encoded(T* object, Encode encode) {
    unsigned char* out = nullptr;
    int size = encode(object, &out);
    if (size <= 0) throw std::runtime_error("cannot encode");
    std::string text(reinterpret_cast<char*>(out), static_cast<std::size_t>(size));
    OPENSSL_free(out);
    return text;
  }
  static std::string der(const certificate& c) { return encoded(c.get(), i2d_X509); }
  static std::string public_der(const key& k) { return encoded(k.get(), i2d_PUBKEY); }
  static std::string pem(const certificate& c) {
    std::unique_ptr<BIO, decltype(&BIO_free)> out(BIO_new(BIO_s_mem()), BIO_free);
    PEM_write_bio_X509(out.get(), c.get());
    char* text = nullptr;
    auto size = BIO_get_mem_data(out.get(), &text);
    return {text, static_cast<std::size_t>(size)};
  }

  static certificate begin(const key& subject, std::time_t from, std::time_t until) {
    certificate c(X509_new(), X509_free);
    X509_set_version(c.get(), X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(c.get()), 7);
    X509_set_pubkey(c.get(), subject.get());
    ASN1_TIME_set(X509_getm_notBefore(c.get()), from);
    ASN1_TIME_set(X509_getm_notAfter(c.get()), until);
    return c;
  }
  static void add(const certificate& c, int nid, const char* value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, c.get(), c.get(), nullptr, nullptr, 0);
    auto* e = X509V3_EXT_conf_nid(nullptr, &context, nid, value);
    if (e == nullptr) throw std::runtime_error("cannot make extension");
    X509_add_ext(c.get(), e, -1);
    X509_EXTENSION_free(e);
  }
  static void add_own(const certificate& c, const std::string& number, const std::string& value,
                      bool as_der) {
    std::unique_ptr<ASN1_OBJECT, decltype(&ASN1_OBJECT_free)> id(
        OBJ_txt2obj(("1.3.6.1.4.1.57264.1." + number).c_str(), 1), ASN1_OBJECT_free);
    auto text = as_der ? "\x0c" + std::string(1, static_cast<char>(value.size())) + value : value;
    std::unique_ptr<ASN1_OCTET_STRING, decltype(&ASN1_OCTET_STRING_free)> octets(ASN1_OCTET_STRING_new(),
                                                                                 ASN1_OCTET_STRING_free);
    ASN1_OCTET_STRING_set(octets.get(), bytes(text), static_cast<int>(text.size()));
    auto* e = X509_EXTENSION_create_by_OBJ(nullptr, id.get(), 0, octets.get());
    X509_add_ext(c.get(), e, -1);
    X509_EXTENSION_free(e);
  }
  static void name(X509_NAME* n, const char* common) {
    X509_NAME_add_entry_by_txt(n, "O", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("little.example"),
                               -1, -1, 0);
    X509_NAME_add_entry_by_txt(n, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(common), -1, -1,
                               0);
  }
  static certificate make_root(const char* common, const key& k) {
    auto c = begin(k, std::time(nullptr) - 86'400, std::time(nullptr) + 86'400);
    name(X509_get_subject_name(c.get()), common);
    name(X509_get_issuer_name(c.get()), common);
    add(c, NID_basic_constraints, "critical,CA:TRUE");
    add(c, NID_key_usage, "critical,keyCertSign,cRLSign");
    X509_sign(c.get(), k.get(), EVP_sha256());
    return c;
  }
  certificate make_time_certificate() const {
    auto c = begin(time_key, std::time(nullptr) - 86'400, std::time(nullptr) + 86'400);
    name(X509_get_subject_name(c.get()), "clock");
    name(X509_get_issuer_name(c.get()), "little times");
    add(c, NID_key_usage, "critical,digitalSignature");
    add(c, NID_ext_key_usage, "critical,timeStamping");
    X509_sign(c.get(), time_root_key.get(), EVP_sha256());
    return c;
  }

  static std::string number(std::uint64_t value, int size) {
    std::string out;
    for (int i = size; i-- > 0;) out += static_cast<char>(value >> (8 * i));
    return out;
  }
  certificate make_leaf(const key& mine, std::time_t from, std::time_t until, const key& log) const {
    auto c = begin(mine, from, until);
    name(X509_get_issuer_name(c.get()), "little authority");
    add(c, NID_key_usage, "critical,digitalSignature");
    add(c, NID_ext_key_usage, "codeSigning");
    add(c, NID_subject_alt_name, ("critical,URI:" + std::string(owner)).c_str());
    add_own(c, "1", issuer, false);
    add_own(c, "2", "push", false);
    add_own(c, "8", issuer, true);
    add_own(c, "9", owner, true);
    X509_sign(c.get(), authority_key.get(), EVP_sha256());  // so that it says how it is signed
    auto body = encoded(c.get(), i2d_re_X509_tbs);
    auto told_ms = static_cast<std::uint64_t>(from) * 1000;
    auto promise =
        signed_with(log, number(0, 2) + number(told_ms, 8) + number(1, 2) + hash(public_der(authority_key)) +
                             number(body.size(), 3) + body + number(0, 2));
    SCT* sct = SCT_new();
    auto id = hash(public_der(log));
    SCT_set_version(sct, SCT_VERSION_V1);
    SCT_set_log_entry_type(sct, CT_LOG_ENTRY_TYPE_PRECERT);
    SCT_set1_log_id(sct, bytes(id), id.size());
    SCT_set_timestamp(sct, told_ms);
    SCT_set_signature_nid(sct, NID_ecdsa_with_SHA256);
    SCT_set1_signature(sct, bytes(promise), promise.size());
    STACK_OF(SCT)* list = sk_SCT_new_null();
    sk_SCT_push(list, sct);
    X509_add1_ext_i2d(c.get(), NID_ct_precert_scts, list, 0, 0);
    SCT_LIST_free(list);
    X509_sign(c.get(), authority_key.get(), EVP_sha256());
    return c;
  }

  static std::string first_body(const std::string& artifact, const std::string& signature,
                                const certificate& leaf) {
    return json_text(
        nlohmann::json{{"apiVersion", "0.0.1"},
                       {"kind", "hashedrekord"},
                       {"spec",
                        {{"data", {{"hash", {{"algorithm", "sha256"}, {"value", hex(artifact)}}}}},
                         {"signature",
                          {{"content", base64_encode(signature)},
                           {"publicKey", {{"content", base64_encode(pem(leaf))}}}}}}}});
  }
  static std::string second_body(const std::string& text, const std::string& signature,
                                 const certificate& leaf) {
    return json_text(
        nlohmann::json{{"apiVersion", "0.0.2"},
                       {"kind", "hashedrekord"},
                       {"spec",
                        {{"hashedRekordV002",
                          {{"data", {{"algorithm", "SHA2_256"}, {"digest", base64_encode(hash(text))}}},
                           {"signature",
                            {{"content", base64_encode(signature)},
                             {"verifier",
                              {{"keyDetails", "PKIX_ECDSA_P256_SHA_256"},
                               {"x509Certificate", {{"rawBytes", base64_encode(der(leaf))}}}}}}}}}}}});
  }
  static std::string statement_body(const std::string& payload, const std::string& signature,
                                    const certificate& leaf) {
    return json_text(nlohmann::json{
        {"apiVersion", "0.0.1"},
        {"kind", "dsse"},
        {"spec",
         {{"payloadHash", {{"algorithm", "sha256"}, {"value", hex(payload)}}},
          {"signatures",
           {{{"signature", base64_encode(signature)}, {"verifier", base64_encode(pem(leaf))}}}}}}});
  }

  /// The entry as the second of three leaves of the log's tree.
  nlohmann::json entry(const std::string& body, std::time_t when, bool second_version) const {
    auto id = hash(public_der(signature_log));
    constexpr std::int64_t index = 41;
    nlohmann::json out{{"logIndex", std::to_string(index)},
                       {"logId", {{"keyId", base64_encode(id)}}},
                       {"kindVersion", {{"kind", "x"}, {"version", "x"}}},
                       {"canonicalizedBody", base64_encode(body)}};
    if (!second_version) {
      out["integratedTime"] = std::to_string(when);
      out["inclusionPromise"]["signedEntryTimestamp"] = base64_encode(
          signed_with(signature_log, "{\"body\":\"" + base64_encode(body) +
                                         "\",\"integratedTime\":" + std::to_string(when) + ",\"logID\":\"" +
                                         to_hex(id) + "\",\"logIndex\":" + std::to_string(index) + "}"));
    }
    auto before = hash("one leaf"), after = hash("another");
    auto root = hash("\1" + hash("\1" + before + hash(std::string(1, '\0') + body)) + after);
    auto note = std::string("rekor.example") + (second_version ? "" : " - 123") + "\n3\n" +
                base64_encode(root) + "\n";
    note += "\n\xe2\x80\x94 rekor.example " +
            base64_encode(id.substr(0, 4) + signed_with(signature_log, note)) + "\n";
    out["inclusionProof"] = {{"logIndex", "1"},
                             {"treeSize", "3"},
                             {"rootHash", base64_encode(root)},
                             {"hashes", {base64_encode(before), base64_encode(after)}},
                             {"checkpoint", {{"envelope", note}}}};
    return out;
  }

  std::string time_response(const std::string& signature, std::time_t when) const {
    std::unique_ptr<TS_REQ, decltype(&TS_REQ_free)> request(TS_REQ_new(), TS_REQ_free);
    TS_REQ_set_version(request.get(), 1);
    TS_REQ_set_cert_req(request.get(), 1);
    auto* imprint = TS_MSG_IMPRINT_new();
    auto* algorithm = X509_ALGOR_new();
    X509_ALGOR_set0(algorithm, OBJ_nid2obj(NID_sha256), V_ASN1_NULL, nullptr);
    TS_MSG_IMPRINT_set_algo(imprint, algorithm);
    auto d = hash(signature);
    TS_MSG_IMPRINT_set_msg(imprint, bytes(d), static_cast<int>(d.size()));
    TS_REQ_set_msg_imprint(request.get(), imprint);
    X509_ALGOR_free(algorithm);
    TS_MSG_IMPRINT_free(imprint);
    auto request_der = encoded(request.get(), i2d_TS_REQ);

    std::unique_ptr<TS_RESP_CTX, decltype(&TS_RESP_CTX_free)> context(TS_RESP_CTX_new(), TS_RESP_CTX_free);
    std::unique_ptr<ASN1_OBJECT, decltype(&ASN1_OBJECT_free)> policy(OBJ_txt2obj("1.2.3.4", 1),
                                                                     ASN1_OBJECT_free);
    TS_RESP_CTX_set_signer_cert(context.get(), time_certificate.get());
    TS_RESP_CTX_set_signer_key(context.get(), time_key.get());
    TS_RESP_CTX_set_signer_digest(context.get(), EVP_sha256());
    TS_RESP_CTX_set_ess_cert_id_digest(context.get(), EVP_sha256());
    TS_RESP_CTX_set_def_policy(context.get(), policy.get());
    TS_RESP_CTX_add_md(context.get(), EVP_sha256());
    TS_RESP_CTX_set_serial_cb(
        context.get(),
        [](TS_RESP_CTX*, void*) {
          auto* n = ASN1_INTEGER_new();
          ASN1_INTEGER_set(n, 1);
          return n;
        },
        nullptr);
    TS_RESP_CTX_set_time_cb(
        context.get(),
        [](TS_RESP_CTX*, void* data, long* seconds, long* microseconds) {
          *seconds = static_cast<long>(*static_cast<std::time_t*>(data));
          *microseconds = 0;
          return 1;
        },
        &when);
    std::unique_ptr<BIO, decltype(&BIO_free)> in(
        BIO_new_mem_buf(request_der.data(), static_cast<int>(request_der.size())), BIO_free);
    std::unique_ptr<TS_RESP, decltype(&TS_RESP_free)> response(
        TS_RESP_create_response(context.get(), in.get()), TS_RESP_free);
    if (!response) throw std::runtime_error("no timestamp");
    return encoded(response.get(), i2d_TS_RESP);
  }
};

}  // namespace kiln::test
