#include "client/build/request.hpp"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include <fmt/format.h>

#include "base/csv.hpp"
#include "base/numbers.hpp"
#include "base/text.hpp"

namespace kiln::client {
namespace {

error invalid(std::string message) { return make_error(errc::invalid_argument, std::move(message)); }

struct typed_attrs {
  std::string type;
  string_map attrs;
};

// "type=x,key=value,…": keys are case-insensitive.
result<typed_attrs> parse_typed(const std::string& text) {
  KILN_TRY(auto fields, split_csv(text));
  typed_attrs out;
  for (const auto& field : fields) {
    auto equals = field.find('=');
    if (equals == std::string::npos) return invalid("invalid value " + field);
    auto key = to_lower(field.substr(0, equals));
    auto value = field.substr(equals + 1);
    if (key == "type") out.type = value;
    else out.attrs[key] = value;
  }
  return out;
}

const char* environment(const char* name) { return std::getenv(name); }

// Source: buildctl build/util.go loadGithubEnv.
status add_github_defaults(cache_request& cache) {
  auto& a = cache.attrs;
  auto fill = [&](const char* key, const char* variable) {
    if (const char* value = environment(variable); value && !a.contains(key)) a[key] = value;
  };
  std::string version = a.contains("version") ? a["version"] : "";
  if (version.empty())
    if (const char* v2 = environment("ACTIONS_CACHE_SERVICE_V2"); v2 && parse_bool(v2).value_or(false))
      version = "2";
  if (version == "2") fill("url_v2", "ACTIONS_RESULTS_URL");
  fill("url", "ACTIONS_CACHE_URL");
  fill("url", "ACTIONS_RESULTS_URL");
  if (!a.contains("url") && !a.contains("url_v2"))
    return invalid("cache with type gha requires url parameter to be set");
  fill("token", "ACTIONS_RUNTIME_TOKEN");
  if (!a.contains("token"))
    return invalid("cache with type gha requires token parameter or $ACTIONS_RUNTIME_TOKEN");
  return {};
}

template <class T>
result<T> named(std::string_view flag, result<T> r) {
  if (!r.ok()) return std::move(r).error().with_context(flag);
  return r;
}

bool is_remote(std::string_view context) {
  return context.starts_with("http://") || context.starts_with("https://") || context.starts_with("git://") ||
         context.starts_with("git@") || context.starts_with("ssh://") || context.starts_with("github.com/");
}

// Build arguments given by name alone take their value from the environment, or vanish when it is not set.
void add_from_environment(string_map& attrs, const std::string& prefix, const std::string& text) {
  if (auto equals = text.find('='); equals != std::string::npos)
    attrs[prefix + text.substr(0, equals)] = text.substr(equals + 1);
  else if (const char* value = environment(text.c_str())) attrs[prefix + text] = value;
}

status add_attestations(const build_flags& f, string_map& attrs) {
  auto shorthand = [&](const std::string& name, const std::string& value) -> status {
    if (value.empty()) return {};
    auto on = parse_bool(value);
    if (on && !*on) {
      attrs["attest:" + name] = "disabled=true";
      return {};
    }
    attrs["attest:" + name] = on ? "" : value;
    return {};
  };
  KILN_CHECK(shorthand("sbom", f.sbom));
  KILN_CHECK(shorthand("provenance", f.provenance));
  for (const auto& text : f.attests) {
    auto parsed = parse_typed(text);
    if (!parsed.ok()) return std::move(parsed).error().with_context("--attest");
    if (parsed->type.empty()) return invalid("--attest requires type=<type>: " + text);
    std::string rest;
    for (const auto& [key, value] : parsed->attrs) rest += (rest.empty() ? "" : ",") + key + "=" + value;
    attrs["attest:" + parsed->type] = rest;
  }
  return {};
}

status add_build_contexts(const build_flags& f, build_request& r) {
  for (const auto& text : f.build_contexts) {
    auto equals = text.find('=');
    if (equals == std::string::npos || equals == 0)
      return invalid(fmt::format("--build-context: invalid context value: {}, expected key=value", text));
    auto name = text.substr(0, equals);
    auto value = text.substr(equals + 1);
    if (value.starts_with("docker-image://") || value.starts_with("target:") || is_remote(value)) {
      r.attrs["context:" + name] = value;
    } else if (value.starts_with("oci-layout://")) {
      auto path = value.substr(13);
      std::string suffix;
      if (auto at = path.find_first_of("@:", path.rfind('/') + 1); at != std::string::npos) {
        suffix = path.substr(at);
        path = path.substr(0, at);
      }
      r.oci_layouts[name] = path;
      r.attrs["context:" + name] = "oci-layout://" + name + suffix;
    } else {
      std::error_code err;
      if (!std::filesystem::is_directory(value, err))
        return invalid(fmt::format("--build-context {}: {} is not a directory", name, value));
      r.locals["context:" + name] = value;
      r.attrs["context:" + name] = "local:context:" + name;
    }
  }
  return {};
}

status add_context(const build_flags& f, build_request& r) {
  if (!f.context) return invalid("a build context is required: kilnctl build [flags] <directory or URL>");
  const auto& context = *f.context;
  if (is_remote(context)) {
    r.attrs["context"] = context;
    if (!f.file.empty()) r.attrs["filename"] = f.file;
    return {};
  }
  std::error_code err;
  if (!std::filesystem::is_directory(context, err))
    return invalid(fmt::format("build context {} is not a directory", context));
  r.locals["context"] = context;
  if (f.file.empty()) {
    r.locals["dockerfile"] = context;
    return {};
  }
  std::filesystem::path file(f.file);
  if (!std::filesystem::exists(file, err)) return invalid(fmt::format("--file {}: no such file", f.file));
  r.locals["dockerfile"] = file.has_parent_path() ? file.parent_path().string() : ".";
  r.attrs["filename"] = file.filename().string();
  return {};
}

status add_short_outputs(const build_flags& f, build_request& r) {
  if (f.push && f.tags.empty() && f.outputs.empty()) return invalid("--push requires a name: -t <name>");
  auto names = join(f.tags, ",");
  for (auto& e : r.exports) {
    bool image = e.type == "image" || e.type == "oci" || e.type == "docker";
    if (image && !names.empty() && !e.attrs.contains("name")) e.attrs["name"] = names;
    if (f.push && e.type == "image") e.attrs["push"] = "true";
  }
  if (f.load) {
    export_request load{
        .type = "docker", .attrs = {}, .where = export_request::destination::docker_load, .path = {}};
    if (!names.empty()) load.attrs["name"] = names;
    r.exports.push_back(std::move(load));
  }
  if (r.exports.empty() && (!names.empty() || f.push)) {
    export_request image{.type = "image", .attrs = {{"name", names}}, .path = {}};
    if (f.push) image.attrs["push"] = "true";
    r.exports.push_back(std::move(image));
  }
  return {};
}

status apply_short_grammar(const build_flags& f, build_request& r) {
  if (!f.frontend.empty() && f.frontend != "dockerfile.v0")
    return invalid(
        fmt::format("--frontend {} cannot be used together with a build context or its flags", f.frontend));
  r.frontend = "dockerfile.v0";
  KILN_CHECK(add_context(f, r));
  KILN_CHECK(add_build_contexts(f, r));
  auto& a = r.attrs;
  if (!f.target.empty()) a["target"] = f.target;
  for (const auto& arg : f.build_args) {
    if (arg.empty() || arg[0] == '=') return invalid(fmt::format("--build-arg: invalid value \"{}\"", arg));
    add_from_environment(a, "build-arg:", arg);
  }
  for (const auto& label : f.labels) {
    auto equals = label.find('=');
    a["label:" + label.substr(0, equals)] = equals == std::string::npos ? "" : label.substr(equals + 1);
  }
  if (!f.platforms.empty()) a["platform"] = join(f.platforms, ",");
  if (!f.add_hosts.empty()) {
    std::vector<std::string> hosts;
    for (auto host : f.add_hosts) {
      // "host:ip" and "host=ip" alike; the frontend reads host=ip.
      auto split = host.find_first_of("=:");
      if (split == std::string::npos || split == 0)
        return invalid(fmt::format("--add-host: invalid value \"{}\"", host));
      host[split] = '=';
      hosts.push_back(host);
    }
    a["add-hosts"] = join(hosts, ",");
  }
  if (!f.ulimits.empty()) a["ulimit"] = join(f.ulimits, ",");
  if (!f.shm_size.empty()) a["shm-size"] = f.shm_size;
  if (!f.cgroup_parent.empty()) a["cgroup-parent"] = f.cgroup_parent;
  if (f.pull) a["image-resolve-mode"] = "pull";
  if (!f.no_cache_filters.empty()) a["no-cache"] = join(f.no_cache_filters, ",");
  if (!f.network.empty() && f.network != "default") {
    if (f.network != "none" && f.network != "host")
      return invalid(fmt::format("--network: unsupported mode \"{}\" (default, none, host)", f.network));
    a["force-network-mode"] = f.network;
    if (f.network == "host" &&
        std::find(r.entitlements.begin(), r.entitlements.end(), "network.host") == r.entitlements.end())
      r.entitlements.push_back("network.host");
  }
  KILN_CHECK(add_attestations(f, a));
  auto call = f.check ? std::string("check") : f.call;
  if (!call.empty() && call != "build") {
    if (call == "check") call = "lint";
    if (call != "lint" && call != "outline" && call != "targets")
      return invalid(
          fmt::format("--call: unsupported method \"{}\" (build, check, outline, targets)", f.call));
    a["requestid"] = "frontend." + call;
  }
  return add_short_outputs(f, r);
}

}  // namespace

result<string_map> parse_pairs(const std::vector<std::string>& texts) {
  string_map out;
  for (const auto& text : texts) {
    auto equals = text.find('=');
    if (equals == std::string::npos) return invalid("invalid value " + text);
    out[text.substr(0, equals)] = text.substr(equals + 1);
  }
  return out;
}

result<export_request> parse_output(const std::string& text, bool short_grammar, bool stdout_is_terminal) {
  using where = export_request::destination;
  export_request out;
  if (short_grammar && text.find("type=") == std::string::npos) {
    // "-o dir" and "-o -", as docker build has them.
    if (text == "-") {
      if (stdout_is_terminal)
        return invalid("output file is required for tar exporter. refusing to write to console");
      out.type = "tar";
      out.where = where::standard_output;
    } else {
      out.type = "local";
      out.where = where::directory;
      out.path = text.starts_with("dest=") ? text.substr(5) : text;
    }
    return out;
  }
  KILN_TRY(auto parsed, parse_typed(text));
  out.type = parsed.type;
  out.attrs = std::move(parsed.attrs);
  if (out.type.empty()) return invalid("--output requires type=<type>");
  if (auto it = out.attrs.find("output"); it != out.attrs.end())
    return invalid(
        fmt::format("output={} not supported for --output, you meant dest={}?", it->second, it->second));
  if (short_grammar && out.type == "registry") {
    out.type = "image";
    out.attrs["push"] = "true";
  }
  std::string dest;
  if (auto it = out.attrs.find("dest"); it != out.attrs.end()) dest = it->second;
  bool file = out.type == "tar";
  bool directory = out.type == "local";
  if (out.type == "oci" || out.type == "docker") {
    bool tar = out.attrs.contains("tar") ? parse_bool(out.attrs["tar"]).value_or(true) : true;
    file = tar;
    directory = !tar;
  }
  auto refuse = [](std::string why) { return invalid("invalid output option: output: " + why); };
  if (directory) {
    if (dest.empty()) return refuse(fmt::format("output directory is required for {} exporter", out.type));
    out.where = out.type == "local" ? where::directory : where::store;
    out.path = dest;
  } else if (file) {
    std::error_code err;
    if (!dest.empty() && dest != "-") {
      if (std::filesystem::is_directory(dest, err)) return refuse("destination file is a directory");
      out.where = where::file;
      out.path = dest;
    } else {
      if (stdout_is_terminal)
        return refuse(
            fmt::format("output file is required for {} exporter. refusing to write to console", out.type));
      out.where = where::standard_output;
    }
  } else if (!dest.empty()) {
    return refuse(fmt::format("output {} is not supported by {} exporter", dest, out.type));
  }
  if (out.where != where::none) out.attrs.erase("dest");
  if (out.type == "local")
    if (auto it = out.attrs.find("mode");
        it != out.attrs.end() && it->second != "copy" && it->second != "delete" && !it->second.empty())
      return invalid(fmt::format("invalid local exporter mode \"{}\"", it->second));
  return out;
}

result<cache_request> parse_export_cache(const std::string& text) {
  if (text.find("type=") == std::string::npos)
    return cache_request{"registry", {{"mode", "min"}, {"ref", text}}};
  KILN_TRY(auto parsed, parse_typed(text));
  if (parsed.type.empty()) return invalid("--export-cache requires type=<type>");
  cache_request out{parsed.type, std::move(parsed.attrs)};
  out.attrs.try_emplace("mode", "min");
  if (out.type == "gha") KILN_CHECK(add_github_defaults(out));
  if (out.type == "local" && !out.attrs.contains("dest"))
    return invalid("local cache exporter requires dest");
  if (out.type == "registry" && !out.attrs.contains("ref"))
    return invalid("registry cache exporter requires ref");
  return out;
}

result<cache_request> parse_import_cache(const std::string& text) {
  if (text.find("type=") == std::string::npos) return cache_request{"registry", {{"ref", text}}};
  KILN_TRY(auto parsed, parse_typed(text));
  if (parsed.type.empty()) return invalid("--import-cache requires type=<type>");
  cache_request out{parsed.type, std::move(parsed.attrs)};
  if (out.type == "gha") KILN_CHECK(add_github_defaults(out));
  if (out.type == "local" && !out.attrs.contains("src")) return invalid("local cache importer requires src");
  if (out.type == "registry" && !out.attrs.contains("ref"))
    return invalid("registry cache importer requires ref");
  return out;
}

result<secret_source> parse_secret(const std::string& text) {
  auto fields = split_csv(text);
  if (!fields.ok()) return std::move(fields).error().with_context("failed to parse csv secret");
  secret_source out;
  std::string type;
  for (const auto& field : *fields) {
    auto equals = field.find('=');
    if (equals == std::string::npos)
      return invalid(fmt::format("invalid field '{}' must be a key=value pair", field));
    auto key = to_lower(field.substr(0, equals));
    auto value = field.substr(equals + 1);
    if (key == "type") {
      if (value != "file" && value != "env")
        return invalid(fmt::format("unsupported secret type \"{}\"", value));
      type = value;
    } else if (key == "id") {
      out.id = value;
    } else if (key == "source" || key == "src") {
      out.file = value;
    } else if (key == "env") {
      out.environment = value;
    } else {
      return invalid(fmt::format("unexpected key '{}' in '{}'", key, field));
    }
  }
  if (type == "env" && out.environment.empty()) std::swap(out.environment, out.file);
  return out;
}

result<ssh_source> parse_ssh(const std::string& text) {
  ssh_source out;
  auto equals = text.find('=');
  out.id = text.substr(0, equals);
  if (equals != std::string::npos) {
    std::string_view rest = std::string_view(text).substr(equals + 1);
    for (;;) {
      auto comma = rest.find(',');
      auto part = rest.substr(0, comma);
      if (part.starts_with("raw=")) {
        auto raw = parse_bool(part.substr(4));
        if (!raw) return invalid(fmt::format("invalid value for 'raw': {}", part.substr(4)));
        out.raw = *raw;
      } else {
        out.paths.emplace_back(part);
      }
      if (comma == std::string_view::npos) break;
      rest.remove_prefix(comma + 1);
    }
  }
  if (out.raw && out.paths.size() != 1)
    return invalid(fmt::format("raw mode must supply exactly one socket path for \"{}\"", out.id));
  if (out.id.empty()) out.id = "default";
  return out;
}

result<std::map<std::string, auth_tls>> parse_auth_tls(const std::vector<std::string>& texts) {
  constexpr std::string_view flag = "--registry-auth-tlscontext";
  std::map<std::string, auth_tls> out;
  for (const auto& text : texts) {
    KILN_TRY(auto parsed, parse_typed(text));
    auto& a = parsed.attrs;
    bool insecure = a.contains("insecure") && parse_bool(a["insecure"]).value_or(false);
    if (a["host"].empty()) return invalid(fmt::format("{} requires host=<host>", flag));
    bool pair = !a["cert"].empty() && !a["key"].empty();
    if (a["ca"].empty() && !insecure && !pair)
      return invalid(fmt::format("{} requires ca=<ca> or cert=<cert>,key=<key> or insecure=true", flag));
    if (!a["ca"].empty() && a["cert"].empty() != a["key"].empty())
      return invalid(fmt::format("{} requires cert=<cert>,key=<key>", flag));
    auto& tls = out[a["host"]];
    tls.insecure = tls.insecure || insecure;
    if (!a["ca"].empty()) tls.root_cas.push_back(a["ca"]);
    if (pair) tls.key_pairs.emplace_back(a["cert"], a["key"]);
  }
  return out;
}

status check_entitlement(const std::string& text) {
  auto name = text.substr(0, text.find('='));
  if (name == "device") return {};
  if (text == "network.host" || text == "security.insecure") return {};
  return invalid("unknown entitlement " + text);
}

result<build_request> make_build_request(const build_flags& f, bool stdout_is_terminal) {
  build_request r;
  r.frontend = f.frontend;
  r.no_cache = f.no_cache;
  r.proxy_network = f.proxy_network;
  bool brief = f.is_short();

  for (const auto& text : f.allow) {
    KILN_CHECK(check_entitlement(text));
    r.entitlements.push_back(text);
  }
  for (const auto& text : f.outputs) {
    KILN_TRY(auto e, parse_output(text, brief, stdout_is_terminal));
    r.exports.push_back(std::move(e));
  }
  for (const auto& text : f.export_caches) {
    KILN_TRY(auto c, parse_export_cache(text));
    r.cache_exports.push_back(std::move(c));
  }
  for (const auto& text : f.import_caches) {
    KILN_TRY(auto c, parse_import_cache(text));
    r.cache_imports.push_back(std::move(c));
  }
  for (const auto& text : f.secrets) {
    KILN_TRY(auto s, named("--secret", parse_secret(text)));
    r.secrets.push_back(std::move(s));
  }
  for (const auto& text : f.ssh) {
    KILN_TRY(auto s, named("--ssh", parse_ssh(text)));
    for (const auto& other : r.ssh)
      if (other.id == s.id) return invalid(fmt::format("--ssh: duplicate agent ID \"{}\"", s.id));
    r.ssh.push_back(std::move(s));
  }
  KILN_TRY(r.registry_tls, parse_auth_tls(f.auth_tls));
  KILN_TRY(r.locals, named("invalid local", parse_pairs(f.locals)));
  for (const auto& text : f.oci_layouts) {
    auto equals = text.find('=');
    if (equals == std::string::npos)
      return invalid(fmt::format(
          "invalid oci-layout: oci-layout option must be 'id=path/to/layout', instead had invalid {}", text));
    r.oci_layouts[text.substr(0, equals)] = text.substr(equals + 1);
  }

  if (const char* epoch = environment("SOURCE_DATE_EPOCH")) r.attrs["build-arg:SOURCE_DATE_EPOCH"] = epoch;
  for (const auto& opt : f.opts) {
    if (opt.starts_with("build-arg:") && opt.size() > 10 && opt.find('=') == std::string::npos) {
      add_from_environment(r.attrs, "build-arg:", opt.substr(10));
      continue;
    }
    KILN_TRY(auto pair, named("invalid opt", parse_pairs({opt})));
    for (auto& [key, value] : pair) r.attrs[key] = value;
  }
  if (brief) KILN_CHECK(apply_short_grammar(f, r));
  if (r.no_cache && !r.frontend.empty()) r.attrs["no-cache"] = "";
  return r;
}

}  // namespace kiln::client
