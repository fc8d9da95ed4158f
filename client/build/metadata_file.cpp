#include "client/build/metadata_file.hpp"

#include <nlohmann/json.hpp>

#include "client/base64.hpp"

namespace kiln::client {

std::string render_metadata(const std::map<std::string, std::string>& response) {
  auto out = nlohmann::ordered_json::object();  // the daemon's own order inside
  for (const auto& [key, value] : response) {
    out[key] = value;
    auto decoded = base64_decode(value);
    if (!decoded) continue;
    auto parsed = nlohmann::ordered_json::parse(*decoded, nullptr, false);
    if (parsed.is_object() && !parsed.empty()) out[key] = std::move(parsed);
  }
  return out.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace kiln::client
