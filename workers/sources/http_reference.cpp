#include "workers/sources/http_reference.hpp"

#include <algorithm>

#include "base/url.hpp"

namespace kiln::workers {

using nlohmann::ordered_json;

ordered_json http_reference::header_json() const {
  ordered_json out = ordered_json::array();
  for (const auto& [name, value] : headers) out.push_back({{"Name", name}, {"Value", value}});
  return out;
}

std::string http_reference::question() const {
  return place + "\n" + auth_secret + "\n" + json_text(header_json());
}

std::string http_reference::hash() const {
  ordered_json j{
      {"URL", url},      {"Filename", look.filename},       {"Perm", look.perm},      {"UID", look.uid},
      {"GID", look.gid}, {"AuthHeaderSecret", auth_secret}, {"Header", header_json()}};
  return sha256(json_text(j)).str();
}

bool http_reference::from_session() const { return host_of_url(url) == session_host; }

result<http_reference> http_reference::parse(const pb::SourceOp& source) {
  http_reference out;
  out.url = source.identifier();
  if (!out.url.starts_with("http://") && !out.url.starts_with("https://"))
    return make_error(errc::invalid_argument, "source \"" + out.url + "\" is no http source");
  KILN_TRY(auto parts, parse_url(out.url));
  out.place = parts.user_info + "@" + parts.str();
  KILN_TRY(out.look, parse_file_attributes(source));
  for (const auto& [name, value] : source.attrs()) {
    if (name == "http.checksum") {
      KILN_TRY(out.checksum, digest::parse(value));
    } else if (name == "http.authheadersecret") {
      out.auth_secret = value;
    } else if (name == "http.header.accept") {
      out.headers.emplace_back("Accept", value);
    } else if (name == "http.header.user-agent") {
      out.headers.emplace_back("User-Agent", value);
    } else if (name == "http.sig.pubkey") {
      out.signer_keys = value;
    } else if (name == "http.sig.signature") {
      out.signature = value;
    }
  }
  std::sort(out.headers.begin(), out.headers.end());
  for (const auto& [name, value] : out.headers)
    if (value.find_first_of("\r\n") != value.npos)
      return make_error(errc::invalid_argument, "invalid value of http header " + name);
  if (out.signer_keys.empty() != out.signature.empty())
    return make_error(errc::invalid_argument,
                      "http signature verification requires both pubkey and signature");
  return out;
}

}  // namespace kiln::workers
