#include "client/session/docker_config.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include <fmt/format.h>

#include "base/base64.hpp"
#include "base/json_text.hpp"
#include "client/fd.hpp"
#include "client/process.hpp"

namespace kiln::client {
namespace {

using nlohmann::json;

constexpr std::string_view hub_key = "https://index.docker.io/v1/";
constexpr std::size_t config_bytes_max = 4 << 20;
constexpr std::size_t helper_output_bytes_max = 1 << 20;
constexpr auto helper_timeout = std::chrono::seconds(60);

std::string text_of(const json& object, const char* key) {
  auto it = object.find(key);
  return it != object.end() && it->is_string() ? text_value(*it) : std::string();
}

// "user:password" in base64.
status decode_auth(const std::string& encoded, registry_credentials& out) {
  if (encoded.empty()) return {};
  auto decoded = base64_decode(encoded);
  if (!decoded) return make_error(errc::invalid_argument, "auth is not valid base64");
  auto colon = decoded->find(':');
  if (colon == std::string::npos || colon == 0)
    return make_error(errc::invalid_argument, "invalid auth configuration file");
  out.username = decoded->substr(0, colon);
  out.password = decoded->substr(colon + 1);
  while (out.password.ends_with('\0')) out.password.pop_back();
  return {};
}

result<std::map<std::string, registry_credentials>> parse_auths(const json& auths, std::string_view where) {
  std::map<std::string, registry_credentials> out;
  if (!auths.is_object())
    return make_error(errc::invalid_argument, fmt::format("{}: auths must be an object", where));
  for (const auto& [host, entry] : auths.items()) {
    if (!entry.is_object())
      return make_error(errc::invalid_argument, fmt::format("{}: auths.{} must be an object", where, host));
    registry_credentials c;
    c.username = text_of(entry, "username");
    c.password = text_of(entry, "password");
    c.identity_token = text_of(entry, "identitytoken");
    c.registry_token = text_of(entry, "registrytoken");
    if (auto decoded = decode_auth(text_of(entry, "auth"), c); !decoded.ok())
      return std::move(decoded).error().with_context(fmt::format("{}: auths.{}", where, host));
    out[host] = std::move(c);
  }
  return out;
}

// "https://host/v1/" → "host". Source: docker/cli credentials ConvertToHostname.
std::string host_name(std::string_view url) {
  for (std::string_view scheme : {"http://", "https://"})
    if (url.starts_with(scheme)) url.remove_prefix(scheme.size());
  return std::string(url.substr(0, url.find('/')));
}

// Source: docker/docker-credential-helpers client protocol.
result<registry_credentials> ask_helper(const std::string& helper, const std::string& key) {
  KILN_TRY(auto run, run_captured({"docker-credential-" + helper, "get"}, key, helper_output_bytes_max,
                                  helper_timeout));
  if (run.exit_code != 0) {
    auto text = run.output + run.errors;
    while (text.ends_with('\n')) text.pop_back();
    if (text.find("credentials not found in native keychain") != std::string::npos)
      return registry_credentials{};
    return make_error(errc::unknown, fmt::format("error getting credentials - err: exit status {}, out: `{}`",
                                                 run.exit_code, text));
  }
  auto parsed = json_or_null(run.output);
  if (!parsed.is_object())
    return make_error(errc::unknown, fmt::format("docker-credential-{} get: answer is not JSON", helper));
  registry_credentials c;
  auto user = text_of(parsed, "Username");
  if (user == "<token>") {
    c.identity_token = text_of(parsed, "Secret");
  } else {
    c.username = user;
    c.password = text_of(parsed, "Secret");
  }
  return c;
}

}  // namespace

result<docker_config> docker_config::parse(std::string_view text) {
  if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) return docker_config{};
  KILN_TRY(auto parsed, parse_json(text));
  if (!parsed.is_object()) return make_error(errc::invalid_argument, "must be a JSON object");
  docker_config config;
  config.credentials_store = text_of(parsed, "credsStore");
  if (auto it = parsed.find("credHelpers"); it != parsed.end() && it->is_object())
    for (const auto& [host, helper] : it->items())
      if (helper.is_string()) config.credential_helpers[host] = text_value(helper);
  if (auto it = parsed.find("auths"); it != parsed.end() && !it->is_null()) {
    KILN_TRY(config.auths, parse_auths(*it, "config.json"));
  }
  return config;
}

std::string docker_config_directory() {
  if (const char* dir = std::getenv("DOCKER_CONFIG"); dir && *dir) return dir;
  const char* home = std::getenv("HOME");
  return std::string(home ? home : "") + "/.docker";
}

result<docker_config> load_docker_config(const std::string& directory) {
  auto path = directory + "/config.json";
  std::error_code err;
  if (!std::filesystem::exists(path, err)) return docker_config{};
  KILN_TRY(auto text, read_file(path, config_bytes_max));
  auto config = docker_config::parse(text);
  if (!config.ok()) return std::move(config).error().with_context("error parsing " + path);
  return config;
}

registry_credentials lookup_auth(const docker_config& config, const std::string& key) {
  if (auto it = config.auths.find(key); it != config.auths.end()) return it->second;
  auto wanted = host_name(key);
  for (const auto& [host, credentials] : config.auths)
    if (host_name(host) == wanted) return credentials;
  return {};
}

result<registry_credentials> find_credentials(const docker_config& config, std::string_view host,
                                              std::string_view environment) {
  std::string key(host);
  if (host == "registry-1.docker.io" || host == "docker.io" || host == "index.docker.io") key = hub_key;
  if (!environment.empty()) {
    auto parsed = json_or_null(environment);
    if (parsed.is_object() && parsed.contains("auths"))
      if (auto auths = parse_auths(parsed["auths"], "DOCKER_AUTH_CONFIG"); auths.ok())
        if (auto it = auths->find(key); it != auths->end()) return it->second;
  }
  auto helper = config.credential_helpers.find(key);
  std::string store = helper != config.credential_helpers.end() ? helper->second : config.credentials_store;
  if (store.empty()) return lookup_auth(config, key);
  return ask_helper(store, key);
}

}  // namespace kiln::client
