#include "exporters/sigstore/verification.hpp"

#include <openssl/asn1.h>
#include <openssl/ct.h>
#include <openssl/err.h>
#include <openssl/pkcs7.h>
#include <openssl/ts.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <ctime>
#include <set>

#include "base/json_text.hpp"
#include "base/text.hpp"
#include "exporters/sigstore/transparency.hpp"

namespace kiln::exporters::sigstore {
namespace {

void free_certificates(STACK_OF(X509) * stack) { sk_X509_free(stack); }
using certificate_list =
    std::unique_ptr<STACK_OF(X509), freed_by<free_certificates>>;  // certificates are others'
using store_ptr = std::unique_ptr<X509_STORE, freed_by<X509_STORE_free>>;

error denied(std::string why) { return make_error(errc::permission_denied, std::move(why)); }

std::string text_of(const ASN1_STRING* s) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(s)),
          static_cast<std::size_t>(ASN1_STRING_length(s))};
}

/// The root of a chain as what is trusted, at that time.
store_ptr store_of(const trusted_authority& a, std::int64_t seconds) {
  store_ptr out(X509_STORE_new());
  X509_STORE_add_cert(out.get(), a.chain.back().get());
  X509_VERIFY_PARAM_set_time(X509_STORE_get0_param(out.get()), static_cast<std::time_t>(seconds));
  return out;
}

certificate_list below_root(const trusted_authority& a) {
  certificate_list out(sk_X509_new_null());
  for (std::size_t i = 0; i + 1 < a.chain.size(); ++i) sk_X509_push(out.get(), a.chain[i].get());
  return out;
}

// When it was signed.

std::int64_t seconds_of(const ASN1_TIME* t) {
  std::tm parts{};
  return ASN1_TIME_to_tm(t, &parts) == 1 ? static_cast<std::int64_t>(::timegm(&parts)) : 0;
}

bool strong_hash(const X509_ALGOR* a) {
  const ASN1_OBJECT* id = nullptr;
  X509_ALGOR_get0(&id, nullptr, nullptr, a);
  auto nid = OBJ_obj2nid(id);
  return nid == NID_sha256 || nid == NID_sha384 || nid == NID_sha512;
}

/// When that authority saw the signature, if the timestamp is its.
std::optional<std::int64_t> time_told(const std::string& response, const std::string& signature,
                                      const trusted_authority& a) {
  const auto* at = reinterpret_cast<const unsigned char*>(response.data());
  std::unique_ptr<TS_RESP, freed_by<TS_RESP_free>> parsed(
      d2i_TS_RESP(nullptr, &at, static_cast<long>(response.size())));
  TS_TST_INFO* info = parsed ? TS_RESP_get_tst_info(parsed.get()) : nullptr;
  if (info == nullptr || !strong_hash(TS_MSG_IMPRINT_get_algo(TS_TST_INFO_get_msg_imprint(info)))) return {};
  auto seconds = seconds_of(TS_TST_INFO_get_time(info));
  if (!a.when.covers(seconds)) return {};
  std::unique_ptr<TS_VERIFY_CTX, freed_by<TS_VERIFY_CTX_free>> context(TS_VERIFY_CTX_new());
  TS_VERIFY_CTX_set_flags(context.get(), TS_VFY_VERSION | TS_VFY_SIGNATURE | TS_VFY_DATA);
  TS_VERIFY_CTX_set_data(context.get(),
                         BIO_new_mem_buf(signature.data(), static_cast<int>(signature.size())));
  TS_VERIFY_CTX_set_store(context.get(), store_of(a, seconds).release());
  auto others = below_root(a);
  for (int i = 0; i < sk_X509_num(others.get()); ++i) X509_up_ref(sk_X509_value(others.get(), i));
  TS_VERIFY_CTX_set_certs(context.get(), others.release());
  if (TS_RESP_verify_response(context.get(), parsed.get()) != 1) return {};
  // Others may have certificates of that root, too.
  auto known = below_root(a);
  if (sk_X509_num(known.get()) == 0 || X509_check_ca(sk_X509_value(known.get(), 0)) != 0) return seconds;
  certificate_list signers(PKCS7_get0_signers(TS_RESP_get_token(parsed.get()), known.get(), 0));
  bool its = signers && sk_X509_num(signers.get()) == 1 &&
             X509_cmp(sk_X509_value(signers.get(), 0), sk_X509_value(known.get(), 0)) == 0;
  return its ? std::optional(seconds) : std::nullopt;
}

struct seen_times {
  std::vector<std::int64_t> seconds;
  int of_logs = 0;
};

result<seen_times> times_of(const bundle& b, const trusted_root& trusted, const X509* leaf,
                            const std::string& artifact_sha256) {
  seen_times out;
  std::set<std::string> logs, logs_with_time;
  std::set<std::pair<std::string, std::int64_t>> entries;
  for (const auto& e : b.entries) {
    if (!entries.emplace(e.log_id, e.index).second)
      return denied("an entry of a transparency log is there twice");
    const auto* log = log_of(e, trusted);
    if (log == nullptr) continue;
    KILN_CHECK(check_inclusion(e, *log));
    KILN_CHECK(check_subject(e, b, artifact_sha256));
    if (e.integrated_s != 0 && !valid_at(leaf, e.integrated_s))
      return denied("the certificate was not valid when the transparency log took the signature");
    logs.insert(e.log_id);
    // A proof says that the entry is there, and nothing of when.
    if (e.promise.empty() || !logs_with_time.insert(e.log_id).second) continue;
    out.seconds.push_back(e.integrated_s);
    ++out.of_logs;
  }
  if (logs.empty()) return denied("the signature is in no transparency log that is trusted");
  std::set<std::string> authorities;
  for (const auto& t : b.timestamps)
    for (const auto& a : trusted.time_authorities)
      if (auto seconds = time_told(t, b.signature, a)) {
        if (authorities.insert(a.url).second) out.seconds.push_back(*seconds);
        break;
      }
  ERR_clear_error();
  if (out.seconds.empty()) return denied("nobody who is trusted tells when it was signed");
  return out;
}

// By whom.

/// The certificate of who issued the leaf, if one of the trusted authorities stands behind it at that time;
/// the caller's.
certificate_ptr issuer_at(X509* leaf, const bundle& b, const trusted_root& trusted, std::int64_t seconds) {
  std::vector<certificate_ptr> sent;
  for (const auto& der : b.intermediates)
    if (auto c = certificate_of_der(der)) sent.push_back(std::move(c));
  for (const auto& a : trusted.certificate_authorities) {
    if (!a.when.covers(seconds)) continue;
    auto store = store_of(a, seconds);
    auto others = below_root(a);
    for (const auto& c : sent) sk_X509_push(others.get(), c.get());
    std::unique_ptr<X509_STORE_CTX, freed_by<X509_STORE_CTX_free>> context(X509_STORE_CTX_new());
    if (X509_STORE_CTX_init(context.get(), store.get(), leaf, others.get()) != 1) continue;
    bool good = X509_verify_cert(context.get()) == 1;
    ERR_clear_error();
    auto* chain = X509_STORE_CTX_get0_chain(context.get());
    if (!good || chain == nullptr || sk_X509_num(chain) < 2) continue;
    X509* issuer = sk_X509_value(chain, 1);
    X509_up_ref(issuer);
    return certificate_ptr(issuer);
  }
  return nullptr;
}

std::string big_endian(std::uint64_t value, int bytes) {
  std::string out;
  for (int i = bytes - 1; i >= 0; --i) out += static_cast<char>(value >> (8 * i) & 0xff);
  return out;
}

template <class T, class Encode>
std::string der_of(T* object, Encode encode) {
  unsigned char* bytes = nullptr;
  int size = encode(object, &bytes);
  std::string out(reinterpret_cast<char*>(bytes), static_cast<std::size_t>(std::max(size, 0)));
  OPENSSL_free(bytes);
  return out;
}

/// What a certificate's log signed: the certificate as it was before the log's word was put in. Source: RFC
/// 6962, 3.2.
std::string logged_form(const SCT* sct, X509* leaf, X509* issuer) {
  certificate_ptr before(X509_dup(leaf));
  int at = X509_get_ext_by_NID(before.get(), NID_ct_precert_scts, -1);
  X509_EXTENSION_free(X509_delete_ext(before.get(), at));
  auto body = der_of(before.get(), i2d_re_X509_tbs);
  auto issuer_key = der_of(X509_get_X509_PUBKEY(issuer), i2d_X509_PUBKEY);
  unsigned char* extensions = nullptr;
  auto extensions_size = SCT_get0_extensions(sct, &extensions);
  constexpr int version = 0, of_certificate = 0, before_issuing = 1;
  return big_endian(version, 1) + big_endian(of_certificate, 1) + big_endian(SCT_get_timestamp(sct), 8) +
         big_endian(before_issuing, 2) + sha256_bytes(issuer_key) + big_endian(body.size(), 3) + body +
         big_endian(extensions_size, 2) + std::string(reinterpret_cast<char*>(extensions), extensions_size);
}

bool is_logged(X509* leaf, X509* issuer, const trusted_root& trusted) {
  std::unique_ptr<STACK_OF(SCT), freed_by<SCT_LIST_free>> list(
      static_cast<STACK_OF(SCT)*>(X509_get_ext_d2i(leaf, NID_ct_precert_scts, nullptr, nullptr)));
  for (int i = 0; list && i < sk_SCT_num(list.get()); ++i) {
    const SCT* sct = sk_SCT_value(list.get(), i);
    unsigned char *id = nullptr, *signature = nullptr;
    auto id_size = SCT_get0_log_id(sct, &id), signature_size = SCT_get0_signature(sct, &signature);
    for (const auto& log : trusted.certificate_logs)
      if (log.id == std::string_view(reinterpret_cast<char*>(id), id_size) &&
          log.when.covers(static_cast<std::int64_t>(SCT_get_timestamp(sct) / 1000)) &&
          signed_by(log.key.get(), logged_form(sct, leaf, issuer),
                    std::string_view(reinterpret_cast<char*>(signature), signature_size)))
        return true;
  }
  return false;
}

/// The extensions that Fulcio gives its certificates, 1.3.6.1.4.1.57264.1.N. Source: fulcio,
/// docs/oid-info.md.
struct extension {
  int number;
  const char* name;
};
constexpr extension extensions[] = {{1, "issuer"},
                                    {2, "githubWorkflowTrigger"},
                                    {3, "githubWorkflowSHA"},
                                    {4, "githubWorkflowName"},
                                    {5, "githubWorkflowRepository"},
                                    {6, "githubWorkflowRef"},
                                    {8, "issuer"},
                                    {9, "buildSignerURI"},
                                    {10, "buildSignerDigest"},
                                    {11, "runnerEnvironment"},
                                    {12, "sourceRepositoryURI"},
                                    {13, "sourceRepositoryDigest"},
                                    {14, "sourceRepositoryRef"},
                                    {15, "sourceRepositoryIdentifier"},
                                    {16, "sourceRepositoryOwnerURI"},
                                    {17, "sourceRepositoryOwnerIdentifier"},
                                    {18, "buildConfigURI"},
                                    {19, "buildConfigDigest"},
                                    {20, "buildTrigger"},
                                    {21, "runInvocationURI"},
                                    {22, "sourceRepositoryVisibilityAtSigning"}};
constexpr int last_bare_number = 6;  // up to here the value is the text itself, later ones are DER
constexpr const char* other_name_oid = "1.3.6.1.4.1.57264.1.7";

std::string extension_text(X509* leaf, const extension& e) {
  std::unique_ptr<ASN1_OBJECT, freed_by<ASN1_OBJECT_free>> id(
      OBJ_txt2obj(("1.3.6.1.4.1.57264.1." + std::to_string(e.number)).c_str(), 1));
  int at = X509_get_ext_by_OBJ(leaf, id.get(), -1);
  if (at < 0) return {};
  auto value = text_of(X509_EXTENSION_get_data(X509_get_ext(leaf, at)));
  if (e.number <= last_bare_number) return value;
  const auto* bytes = reinterpret_cast<const unsigned char*>(value.data());
  std::unique_ptr<ASN1_UTF8STRING, freed_by<ASN1_UTF8STRING_free>> text(
      d2i_ASN1_UTF8STRING(nullptr, &bytes, static_cast<long>(value.size())));
  return text ? text_of(text.get()) : std::string();
}

/// The first URI, or the first mail address, or the first name of Fulcio's own kind.
std::string owner_of(X509* leaf) {
  std::unique_ptr<GENERAL_NAMES, freed_by<GENERAL_NAMES_free>> names(
      static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(leaf, NID_subject_alt_name, nullptr, nullptr)));
  std::unique_ptr<ASN1_OBJECT, freed_by<ASN1_OBJECT_free>> other(OBJ_txt2obj(other_name_oid, 1));
  for (int kind : {GEN_URI, GEN_EMAIL, GEN_OTHERNAME})
    for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
      const auto* name = sk_GENERAL_NAME_value(names.get(), i);
      if (name->type != kind) continue;
      if (kind != GEN_OTHERNAME) return text_of(name->d.ia5);
      const auto* value = name->d.otherName->value;
      if (OBJ_cmp(name->d.otherName->type_id, other.get()) == 0 && value->type == V_ASN1_UTF8STRING)
        return text_of(value->value.utf8string);
    }
  return {};
}

std::string issuer_name(X509* leaf) {
  std::unique_ptr<BIO, freed_by<BIO_free>> out(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(out.get(), X509_get_issuer_name(leaf), 0, XN_FLAG_RFC2253);
  char* bytes = nullptr;
  auto size = BIO_get_mem_data(out.get(), &bytes);
  return {bytes, static_cast<std::size_t>(size)};
}

std::map<std::string, std::string> fields_of(X509* leaf) {
  std::map<std::string, std::string> out;
  for (const auto& e : extensions)
    if (auto text = extension_text(leaf, e); !text.empty()) out[e.name] = std::move(text);
  out["certificateIssuer"] = issuer_name(leaf);
  out["subjectAlternativeName"] = owner_of(leaf);
  return out;
}

// What was signed.

/// Whether an in-toto statement names the artifact among its subjects.
bool names_artifact(const envelope& e, std::string_view sha256_hex) {
  auto j = json_or_null(e.payload);
  const auto* subjects = member_of(j, "subject");
  if (e.type != "application/vnd.in-toto+json" || subjects == nullptr || !subjects->is_array()) return false;
  return std::any_of(subjects->begin(), subjects->end(), [&](const auto& s) {
    const auto* digests = member_of(s, "digest");
    return digests != nullptr && text_member(*digests, "sha256") == sha256_hex;
  });
}

status check_signature(std::string_view artifact, const bundle& b, X509* leaf, std::string_view sha256_hex) {
  auto* key = X509_get0_pubkey(leaf);
  if (key == nullptr) return denied("the certificate has no key that can be used");
  if (b.statement) {
    if (!signed_by(key, pre_authentication(*b.statement), b.signature, true))
      return denied("the signature is not of this statement");
    if (!names_artifact(*b.statement, sha256_hex))
      return denied("the signed statement does not name the artifact");
    return {};
  }
  if (b.message_sha256 && to_hex(*b.message_sha256) != sha256_hex)
    return denied("the signature is of another artifact");
  return signed_by(key, artifact, b.signature, true) ? status()
                                                     : denied("the signature is not of this artifact");
}

}  // namespace

result<signer> verify(std::string_view artifact, const bundle& b, const trusted_root& trusted) {
  auto leaf = certificate_of_der(b.certificate);
  if (!leaf) return denied("the certificate cannot be read");
  auto digest = to_hex(sha256_bytes(artifact));
  KILN_TRY(auto times, times_of(b, trusted, leaf.get(), digest));
  certificate_ptr issuer;
  for (auto seconds : times.seconds)
    if (issuer = issuer_at(leaf.get(), b, trusted, seconds); !issuer)
      return denied("the certificate comes from nobody who is trusted, or was not valid when it was used");
  if ((X509_get_extended_key_usage(leaf.get()) & XKU_CODE_SIGN) == 0 ||
      X509_get_extended_key_usage(leaf.get()) == UINT32_MAX)
    return denied("the certificate is not for signing");
  if (!is_logged(leaf.get(), issuer.get(), trusted))
    return denied("the certificate is in no log of certificates that is trusted");
  KILN_CHECK(check_signature(artifact, b, leaf.get(), digest));
  signer out{fields_of(leaf.get()), static_cast<int>(times.seconds.size()), times.of_logs};
  if (out.fields["subjectAlternativeName"].empty() || out.fields["issuer"].empty())
    return denied("the certificate does not say whose it is");
  return out;
}

}  // namespace kiln::exporters::sigstore
