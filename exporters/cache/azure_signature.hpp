// Shared Key authorization of Azure Storage. Pure but for the cryptography.
// Source: learn.microsoft.com, rest/api/storageservices/authorize-with-shared-key, version 2015-02-21 and
// later.
#pragma once

#include <map>
#include <string>

namespace kiln::exporters {

struct azure_request {
  std::string method;
  std::string path;                            // of the URL, encoded as sent
  std::map<std::string, std::string> query;    // decoded, names in lower case
  std::map<std::string, std::string> headers;  // names in lower case; content-length included
};

std::string azure_string_to_sign(const azure_request& request, const std::string& account);
/// The value of the Authorization header. `key`: the account's, decoded.
std::string azure_authorization(const azure_request& request, const std::string& account,
                                const std::string& key);

}  // namespace kiln::exporters
