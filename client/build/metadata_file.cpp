#include "client/build/metadata_file.hpp"

#include "base/base64.hpp"
#include "base/json_text.hpp"

namespace kiln::client {

std::string render_metadata(const std::map<std::string, std::string>& response) {
  auto out = nlohmann::ordered_json::object();  // the daemon's own order inside
  for (const auto& [key, value] : response) {
    out[key] = value;
    auto decoded = base64_decode(value);
    if (!decoded) continue;
    auto parsed = json_or_null<nlohmann::ordered_json>(*decoded);
    if (parsed.is_object() && !parsed.empty()) out[key] = std::move(parsed);
  }
  return json_text(out, 2);
}

}  // namespace kiln::client
