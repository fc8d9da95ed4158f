#include "exporters/cache/azure_signature.hpp"

#include "base/base64.hpp"
#include "exporters/cache/request_text.hpp"
#include "distribution/transport.hpp"

namespace kiln::exporters {

std::string azure_string_to_sign(const azure_request& request, const std::string& account) {
  std::string out = request.method + "\n";
  for (const char* name :
       {"content-encoding", "content-language", "content-length", "content-md5", "content-type", "date",
        "if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range"}) {
    auto it = request.headers.find(name);
    // No body and a body of nothing are signed alike.
    if (it != request.headers.end() && !(it->first == "content-length" && it->second == "0"))
      out += it->second;
    out += "\n";
  }
  for (const auto& [name, value] : request.headers)
    if (name.starts_with("x-ms-")) out += name + ":" + value + "\n";
  out += "/" + account + request.path;
  for (const auto& [name, value] : request.query) out += "\n" + name + ":" + value;
  return out;
}

std::string azure_authorization(const azure_request& request, const std::string& account,
                                const std::string& key) {
  return "SharedKey " + account + ":" +
         base64_encode(hmac_sha256(key, azure_string_to_sign(request, account)));
}

}  // namespace kiln::exporters
