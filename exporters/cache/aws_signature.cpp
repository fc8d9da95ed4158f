#include "exporters/cache/aws_signature.hpp"

#include "base/digest.hpp"
#include "base/text.hpp"
#include "base/time_text.hpp"
#include "exporters/cache/request_text.hpp"

namespace kiln::exporters {
namespace {

/// Leading and trailing spaces go, runs of them become one.
std::string trimmed(const std::string& value) {
  std::string out;
  for (char c : value)
    if (c != ' ' || (!out.empty() && out.back() != ' ')) out += c;
  while (!out.empty() && out.back() == ' ') out.pop_back();
  return out;
}

}  // namespace

std::map<std::string, std::string> aws_signed_headers(const aws_request& request, const aws_credentials& who,
                                                      const std::string& region, const std::string& service,
                                                      std::int64_t now) {
  auto stamp = format_rfc3339_seconds(now);
  std::erase_if(stamp, [](char c) { return c == '-' || c == ':'; });
  auto day = stamp.substr(0, 8);

  auto headers = request.headers;
  headers["x-amz-date"] = stamp;
  headers["x-amz-content-sha256"] = request.payload_sha256;
  if (!who.session_token.empty()) headers["x-amz-security-token"] = who.session_token;
  auto all = headers;
  all["host"] = request.host;

  std::string listed, names;
  for (const auto& [name, value] : all) {
    listed += name + ":" + trimmed(value) + "\n";
    names += (names.empty() ? "" : ";") + name;
  }
  auto canonical = request.method + "\n" + request.path + "\n" + encoded_query(request.query) + "\n" +
                   listed + "\n" + names + "\n" + request.payload_sha256;
  auto scope = day + "/" + region + "/" + service + "/aws4_request";
  auto to_sign = "AWS4-HMAC-SHA256\n" + stamp + "\n" + scope + "\n" + std::string(sha256(canonical).hex());
  auto key = hmac_sha256(hmac_sha256(hmac_sha256(hmac_sha256("AWS4" + who.secret, day), region), service),
                         "aws4_request");
  headers["authorization"] = "AWS4-HMAC-SHA256 Credential=" + who.key_id + "/" + scope +
                             ",SignedHeaders=" + names + ",Signature=" + to_hex(hmac_sha256(key, to_sign));
  return headers;
}

}  // namespace kiln::exporters
