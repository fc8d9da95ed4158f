// AWS Signature Version 4 for requests with headers. Pure but for the cryptography.
// Source: docs.aws.amazon.com, "Authenticating Requests: Using the Authorization Header".
#pragma once

#include <map>
#include <string>

namespace kiln::exporters {

struct aws_credentials {
  std::string key_id, secret, session_token;
};

struct aws_request {
  std::string method;
  std::string host;                            // with the port unless it is the scheme's own
  std::string path;                            // encoded
  std::map<std::string, std::string> query;    // decoded
  std::map<std::string, std::string> headers;  // to be signed, names in lower case; without host
  std::string payload_sha256;                  // hex, or UNSIGNED-PAYLOAD
};

/// The headers to send, those of the request included: x-amz-date, x-amz-content-sha256,
/// x-amz-security-token, authorization. `now`: seconds since the epoch.
std::map<std::string, std::string> aws_signed_headers(const aws_request& request, const aws_credentials& who,
                                                      const std::string& region, const std::string& service,
                                                      std::int64_t now);

}  // namespace kiln::exporters
