#include "workers/executor/cni_config.hpp"

namespace kiln::workers {

using nlohmann::json;

result<cni_network> parse_cni_network(const std::string& text) {
  auto document = json::parse(text, nullptr, false);
  if (!document.is_object()) return make_error(errc::invalid_argument, "CNI config is no JSON object");
  cni_network out;
  auto word = [](const json& j, const char* key) {
    auto found = j.find(key);
    return found != j.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  out.version = word(document, "cniVersion");
  if (out.version.empty()) out.version = "0.1.0";
  out.name = word(document, "name");
  if (out.name.empty()) return make_error(errc::invalid_argument, "CNI config has no name");
  if (document.contains("plugins")) {
    if (!document["plugins"].is_array() || document["plugins"].empty())
      return make_error(errc::invalid_argument, "CNI config has no plugins");
    for (auto& plugin : document["plugins"]) out.plugins.push_back(std::move(plugin));
  } else {
    out.plugins.push_back(std::move(document));
  }
  for (const auto& plugin : out.plugins)
    if (!plugin.is_object() || word(plugin, "type").empty() || word(plugin, "type").find('/') != std::string::npos)
      return make_error(errc::invalid_argument, "CNI config has a plugin without a type");
  return out;
}

cni_network bridge_cni_network(const std::string& bridge, const std::string& subnet) {
  json ranges = json::array({json::array({json{{"subnet", subnet}}})});
  return {"1.0.0",
          "buildkit",
          {{{"type", "bridge"},
            {"bridge", bridge},
            {"isDefaultGateway", true},
            {"ipMasq", true},
            {"ipam", {{"type", "host-local"}, {"ranges", ranges}}}},
           {{"type", "firewall"}, {"ingressPolicy", "same-bridge"}}}};
}

std::string cni_plugin_input(const cni_network& network, std::size_t plugin, const json& former) {
  auto input = network.plugins.at(plugin);
  input["cniVersion"] = network.version;
  input["name"] = network.name;
  input.erase("capabilities");
  if (!former.is_null()) input["prevResult"] = former;
  return input.dump();
}

std::string cni_error_text(const std::string& output) {
  auto document = json::parse(output, nullptr, false);
  if (!document.is_object() || !document.contains("msg") || !document["msg"].is_string()) return output;
  std::string text = document["msg"];
  if (document.contains("details") && document["details"].is_string() && !document["details"].empty())
    text += "; " + document["details"].get<std::string>();
  return text;
}

}  // namespace kiln::workers
