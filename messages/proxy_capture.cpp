#include "messages/proxy_capture.hpp"

#include "base/json_text.hpp"

namespace kiln {

using nlohmann::json;

std::string capture_key(std::string_view op_digest) { return "proxy.capture." + std::string(op_digest); }

std::string to_text(const proxy_capture& capture) {
  json materials = json::array(), gaps = json::array();
  for (const auto& m : capture.materials) materials.push_back({{"url", m.url}, {"digest", m.digest}});
  for (const auto& g : capture.gaps)
    gaps.push_back({{"method", g.method}, {"url", g.url}, {"reason", g.reason}});
  return json_text(json{{"materials", std::move(materials)}, {"gaps", std::move(gaps)}});
}

result<proxy_capture> parse_proxy_capture(std::string_view text) {
  KILN_TRY(auto document, parse_json(text));
  const auto* materials = member_of(document, "materials");
  const auto* gaps = member_of(document, "gaps");
  if (!materials || !gaps || !materials->is_array() || !gaps->is_array())
    return make_error(errc::invalid_argument, "not what a proxy captured");
  proxy_capture out;
  for (const auto& m : *materials) out.materials.push_back({text_member(m, "url"), text_member(m, "digest")});
  for (const auto& g : *gaps)
    out.gaps.push_back({text_member(g, "method"), text_member(g, "url"), text_member(g, "reason")});
  return out;
}

}  // namespace kiln
