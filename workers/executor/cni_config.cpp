#include "workers/executor/cni_config.hpp"

#include "base/json_text.hpp"

namespace kiln::workers {

using nlohmann::json;

result<cni_network> parse_cni_network(const std::string& text) {
  auto parsed = parse_json(text);
  if (!parsed.ok()) return std::move(parsed).error().with_context("CNI config");
  auto document = *std::move(parsed);
  if (!document.is_object()) return make_error(errc::invalid_argument, "CNI config is no JSON object");
  cni_network out;
  auto word = [](const json& j, const char* key) { return text_member(j, key); };
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
    if (!plugin.is_object() || word(plugin, "type").empty() ||
        word(plugin, "type").find('/') != std::string::npos)
      return make_error(errc::invalid_argument, "CNI config has a plugin without a type");
  return out;
}

cni_network bridge_cni_network(const std::string& bridge, const std::string& subnet,
                               const bridge_plugins& plugins, const std::string& firewall) {
  json ranges = json::array({json::array({json{{"subnet", subnet}}})});
  return {"1.0.0",
          "buildkit",
          {{{"type", plugins.bridge},
            {"bridge", bridge},
            {"isDefaultGateway", true},
            {"ipMasq", true},
            {"ipam", {{"type", plugins.addresses}, {"ranges", ranges}}}},
           {{"type", plugins.firewall}, {"backend", firewall}, {"ingressPolicy", "same-bridge"}}}};
}

std::string cni_plugin_input(const cni_network& network, std::size_t plugin, const json& former) {
  auto input = network.plugins.at(plugin);
  input["cniVersion"] = network.version;
  input["name"] = network.name;
  input.erase("capabilities");
  if (!former.is_null()) input["prevResult"] = former;
  return json_text(input);
}

std::string cni_error_text(const std::string& output) {
  auto document = json_or_null(output);
  const auto* message = member_of(document, "msg");
  if (!message || !message->is_string()) return output;
  auto details = text_member(document, "details");
  return text_value(*message) + (details.empty() ? "" : "; " + details);
}

}  // namespace kiln::workers
