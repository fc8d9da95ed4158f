// From the flags of `build` to what is asked of the daemon: frontend, options, directories, exports, caches.
// Reads the environment where buildctl does, but opens nothing.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "client/flags/flags.hpp"
#include "client/session/secrets.hpp"
#include "client/session/token_fetch.hpp"

namespace kiln::client {

using string_map = std::map<std::string, std::string>;

struct export_request {
  std::string type;
  string_map attrs;
  enum class destination { none, file, standard_output, directory, store, docker_load };
  destination where = destination::none;
  std::string path;  // file, directory, store
};

struct cache_request {
  std::string type;
  string_map attrs;
};

struct ssh_source {
  std::string id;
  std::vector<std::string> paths;  // empty: $SSH_AUTH_SOCK
  bool raw = false;
};

struct build_request {
  std::string frontend;  // empty: LLB on stdin
  string_map attrs;
  string_map locals;       // name → directory
  string_map oci_layouts;  // name → directory
  std::vector<export_request> exports;
  std::vector<cache_request> cache_exports;
  std::vector<cache_request> cache_imports;
  std::vector<secret_source> secrets;
  std::vector<ssh_source> ssh;
  std::map<std::string, auth_tls> registry_tls;
  std::vector<std::string> entitlements;
  bool no_cache = false;
  bool proxy_network = false;
};

/// `stdout_is_terminal` decides whether archives may go there. Errors are invalid_argument and name the flag.
/// Source: buildctl build.go and build/*.go; docker/buildx for the short grammar.
result<build_request> make_build_request(const build_flags& flags, bool stdout_is_terminal);

/// One --output value. Source: buildctl build/output.go.
result<export_request> parse_output(const std::string& text, bool short_grammar, bool stdout_is_terminal);
result<cache_request> parse_export_cache(const std::string& text);
result<cache_request> parse_import_cache(const std::string& text);
result<secret_source> parse_secret(const std::string& text);
result<ssh_source> parse_ssh(const std::string& text);
result<std::map<std::string, auth_tls>> parse_auth_tls(const std::vector<std::string>& texts);
/// name=value pairs; "invalid value <text>" without '='.
result<string_map> parse_pairs(const std::vector<std::string>& texts);
/// An entitlement: network.host, security.insecure, device[=…]. Source: buildkit util/entitlements Parse.
status check_entitlement(const std::string& text);

}  // namespace kiln::client
