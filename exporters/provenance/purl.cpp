#include "exporters/provenance/purl.hpp"

#include <algorithm>

#include "base/url.hpp"
#include "messages/image_reference.hpp"

namespace kiln::exporters {

namespace {

std::string path_escape(std::string_view text) { return url_escape(text, "$&+=:@"); }

}  // namespace

result<std::string> image_purl(std::string_view type, std::string_view text, const std::optional<platform>& p,
                               const purl_qualifiers& more) {
  auto parsed = parse_image_reference(text);
  if (!parsed.ok())
    return std::move(parsed).error().with_context("failed to parse ref \"" + std::string(text) + "\"");
  auto ref = parsed->tagged();
  purl_qualifiers qualifiers;
  if (ref.digest) qualifiers.emplace_back("digest", ref.digest.str());
  if (p) qualifiers.emplace_back("platform", format_platform(normalize(*p)));
  qualifiers.insert(qualifiers.end(), more.begin(), more.end());
  auto name = ref.familiar_name();
  std::string out = "pkg:" + std::string(type) + "/";
  for (auto slash = name.find('/'); slash != std::string::npos; slash = name.find('/')) {
    out += url_escape(name.substr(0, slash)) + "/";
    name.erase(0, slash + 1);
  }
  out += url_escape(name);
  if (!ref.tag.empty()) out += "@" + path_escape(ref.tag);
  char separator = '?';
  for (const auto& [key, value] : qualifiers) {
    out += separator + key + "=" + path_escape(value);
    separator = '&';
  }
  return out;
}

std::string redact_credentials(std::string_view url) {
  auto scheme = url.find("://");
  if (scheme == std::string_view::npos) return std::string(url);
  auto begin = scheme + 3;
  auto end = std::min(url.find_first_of("/?#", begin), url.size());
  auto at = url.substr(begin, end - begin).rfind('@');
  if (at == std::string_view::npos) return std::string(url);
  auto user = url.substr(begin, at);
  auto colon = user.find(':');
  auto name = user.substr(0, colon);
  std::string masked = name.empty() ? "" : "xxxxx";
  if (colon != std::string_view::npos) masked += ":xxxxx";
  return std::string(url.substr(0, begin)) + masked + std::string(url.substr(begin + at));
}

}  // namespace kiln::exporters
