#include "exporters/cache/aws_signature.hpp"

#include <array>
#include <ctime>

#include "exporters/cache/request_text.hpp"
#include "messages/digest.hpp"

namespace kiln::exporters {
namespace {

std::string hex(std::string_view bytes) {
  constexpr char digits[] = "0123456789abcdef";
  std::string out;
  for (unsigned char c : bytes) out += digits[c >> 4], out += digits[c & 15];
  return out;
}

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
  std::time_t t = now;
  std::tm parts{};
  ::gmtime_r(&t, &parts);
  std::array<char, 20> text{};
  std::strftime(text.data(), text.size(), "%Y%m%dT%H%M%SZ", &parts);
  std::string stamp = text.data(), day = stamp.substr(0, 8);

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
                             ",SignedHeaders=" + names + ",Signature=" + hex(hmac_sha256(key, to_sign));
  return headers;
}

}  // namespace kiln::exporters
