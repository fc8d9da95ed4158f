#include "exporters/sigstore/trusted_root.hpp"

#include "base/base64.hpp"
#include "base/json_text.hpp"
#include "base/time_text.hpp"

namespace kiln::exporters::sigstore {
namespace {

using json = nlohmann::json;

constexpr std::int64_t second_ns = 1'000'000'000;

error bad(std::string why) { return make_error(errc::invalid_argument, "trusted root: " + std::move(why)); }

const json& part(const json& object, const char* name) {
  static const json none;
  const auto* found = member_of(object, name);
  return found ? *found : none;
}

result<validity> read_validity(const json& j) {
  validity out;
  for (auto [name, into] : {std::pair{"start", &out.begin_s}, {"end", &out.end_s}}) {
    auto text = text_member(j, name);
    if (text.empty()) continue;
    auto time = parse_rfc3339_clamped(text);
    if (!time) return bad("\"" + text + "\" is no time");
    *into = *time / second_ns;
  }
  return out;
}

result<std::vector<trusted_log>> read_logs(const json& list) {
  std::vector<trusted_log> out;
  if (!list.is_array()) return out;
  for (const auto& j : list) {
    const auto& public_key = part(j, "publicKey");
    auto der = base64_decode(text_member(public_key, "rawBytes"));
    auto id = base64_decode(text_member(part(j, "logId"), "keyId"));
    if (!der || !id || id->empty()) return bad("a log without key or id");
    trusted_log log{*std::move(id), text_member(j, "baseUrl"), key_of_der(*der), {}};
    KILN_TRY(log.when, read_validity(part(public_key, "validFor")));
    if (log.when.begin_s == validity().begin_s)
      return bad("a log's key without the time from which it is good");
    if (log.key) out.push_back(std::move(log));
  }
  return out;
}

result<std::vector<trusted_authority>> read_authorities(const json& list) {
  std::vector<trusted_authority> out;
  if (!list.is_array()) return out;
  for (const auto& j : list) {
    trusted_authority a{text_member(j, "uri"), {}, {}};
    const auto& chain = part(part(j, "certChain"), "certificates");
    if (chain.is_array())
      for (const auto& c : chain) {
        auto der = base64_decode(text_member(c, "rawBytes"));
        auto certificate = der ? certificate_of_der(*der) : nullptr;
        if (!certificate) return bad("a certificate of " + a.url + " cannot be read");
        a.chain.push_back(std::move(certificate));
      }
    if (a.chain.empty()) return bad("an authority without certificates");
    KILN_TRY(a.when, read_validity(part(j, "validFor")));
    out.push_back(std::move(a));
  }
  return out;
}

}  // namespace

result<trusted_root> parse_trusted_root(std::string_view text) {
  KILN_TRY(auto j, parse_json(text));
  if (!text_member(j, "mediaType").starts_with("application/vnd.dev.sigstore.trustedroot"))
    return bad("the document's mediaType is \"" + text_member(j, "mediaType") + "\"");
  trusted_root out;
  KILN_TRY(out.signature_logs, read_logs(part(j, "tlogs")));
  KILN_TRY(out.certificate_logs, read_logs(part(j, "ctlogs")));
  KILN_TRY(out.certificate_authorities, read_authorities(part(j, "certificateAuthorities")));
  KILN_TRY(out.time_authorities, read_authorities(part(j, "timestampAuthorities")));
  return out;
}

}  // namespace kiln::exporters::sigstore
