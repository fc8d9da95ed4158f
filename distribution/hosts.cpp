#include "distribution/hosts.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "distribution/authorizer.hpp"
#include "distribution/transport.hpp"

namespace kiln::distribution {
namespace {

constexpr std::size_t max_pem_size = 16 << 20;

/// Debian's, Fedora's and SUSE's bundles, in the order Go tries them.
constexpr const char* system_bundles[] = {"/etc/ssl/certs/ca-certificates.crt",
                                          "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
                                          "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"};

result<std::string> read_pem(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in)
    return make_error(errc::failed_precondition, "failed to read " + path + ": " + std::strerror(errno));
  std::string text(max_pem_size, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(in.gcount()));
  if (!text.ends_with('\n')) text += '\n';
  return text;
}

/// Source: util/resolver/resolver.go, loadTLSConfig.
result<std::shared_ptr<tls_settings>> load_tls(configs::registry_config c) {
  namespace fs = std::filesystem;
  for (const auto& dir : c.tls_config_dirs) {
    std::error_code ec;
    std::vector<fs::path> files;
    for (fs::directory_iterator it(dir, ec), end; !ec && it != end; it.increment(ec))
      files.push_back(it->path());
    if (ec && ec != std::errc::no_such_file_or_directory && ec != std::errc::permission_denied)
      return make_error(errc::failed_precondition, "failed to read " + dir + ": " + ec.message());
    std::sort(files.begin(), files.end());
    for (const auto& f : files) {
      if (f.extension() == ".crt") c.ca.push_back(f);
      if (f.extension() == ".cert") {
        fs::path key = f;
        c.key_pairs.push_back({key.replace_extension(".key"), f});
      }
    }
  }
  auto out = std::make_shared<tls_settings>();
  if (!c.ca.empty()) {
    for (const char* bundle : system_bundles) {
      if (!fs::exists(bundle)) continue;
      KILN_TRY(out->ca_bundle, read_pem(bundle));
      break;
    }
    for (const auto& ca : c.ca) {
      KILN_TRY(std::string pem, read_pem(ca));
      out->ca_bundle += pem;
    }
  }
  for (const auto& pair : c.key_pairs) {
    for (const auto& file : {pair.cert, pair.key})
      if (auto pem = read_pem(file); !pem.ok())
        return std::move(pem).error().with_context("failed to load keypair for " + pair.cert);
    out->certificates.push_back({pair.cert, pair.key});
  }
  return out;
}

/// "[scheme://]host[:port][/path]" to host and path.
std::pair<std::string, std::string> split_mirror(std::string_view mirror) {
  if (auto at = mirror.find("://"); at != mirror.npos) mirror.remove_prefix(at + 3);
  auto slash = mirror.find('/');
  std::string path(slash == mirror.npos ? std::string_view{} : mirror.substr(slash));
  while (path.ends_with('/')) path.pop_back();
  return {std::string(mirror.substr(0, slash)), path};
}

}  // namespace

bool is_localhost(std::string_view host) {
  auto u = parse_url("http://" + std::string(host == "::1" ? "[::1]" : host));
  if (!u.ok()) return false;
  const auto& name = u->host;
  return name == "localhost" || name == "[::1]" ||
         (name.starts_with("127.") && std::count(name.begin(), name.end(), '.') == 3 &&
          name.find_first_not_of("0123456789.") == name.npos);
}

hosts::hosts(std::map<std::string, configs::registry_config> tables, unsigned max_concurrency)
    : tables_(std::move(tables)),
      max_concurrency_(max_concurrency ? max_concurrency : configs::registry_concurrency),
      transport_(std::make_unique<kiln::distribution::transport>(max_concurrency_)),
      authorizer_(std::make_unique<kiln::distribution::authorizer>(*transport_)) {}

hosts::~hosts() = default;

result<endpoint> hosts::make_endpoint(const std::string& host, const configs::registry_config& c) {
  endpoint e;
  e.host = host;
  e.path = "/v2";
  bool http = c.http.value_or(is_localhost(host));
  bool insecure = c.insecure.value_or(false);
  e.scheme = http && !insecure ? "http" : "https";
  e.http_fallback = http && insecure;
  KILN_TRY(auto tls, load_tls(c));
  tls->verify = !insecure;
  e.tls = std::move(tls);
  return e;
}

const configs::registry_config& hosts::table(const std::string& host) const {
  static const configs::registry_config unlisted;
  auto it = tables_.find(host);
  return it == tables_.end() ? unlisted : it->second;
}

bool hosts::plain_allowed(const std::string& host) const {
  return table(host).http.value_or(is_localhost(host));
}

result<endpoint> hosts::foreign(std::string_view url) {
  KILN_TRY(auto u, parse_url(url));
  if (u.scheme != "https" && (u.scheme != "http" || !plain_allowed(u.authority())))
    return make_error(errc::failed_precondition,
                      "foreign layer at " + u.origin() + ": only https, or http where it is configured");
  KILN_TRY(endpoint e, make_endpoint(u.authority(), table(u.authority())));
  e.scheme = u.scheme;
  e.http_fallback = false;
  e.foreign = true;
  auto trust = *e.tls;
  trust.certificates.clear();
  e.tls = std::make_shared<tls_settings>(std::move(trust));
  return e;
}

result<std::vector<endpoint>> hosts::endpoints(std::string_view domain, bool push, bool insecure) {
  std::string name(domain);
  std::string host = name == "docker.io" ? "registry-1.docker.io" : name;
  std::vector<endpoint> out;
  if (insecure) {
    configs::registry_config c;
    c.http = c.insecure = true;
    KILN_TRY(endpoint e, make_endpoint(host, c));
    e.push = true;
    out.push_back(std::move(e));
    return out;
  }
  const auto& c = table(name);
  for (const auto& raw : c.mirrors) {
    if (push) break;
    auto [mirror, path] = split_mirror(raw);
    KILN_TRY(endpoint e, make_endpoint(mirror, table(mirror)));
    e.path += path;
    e.mirror = mirror != host;
    out.push_back(std::move(e));
  }
  KILN_TRY(endpoint e, make_endpoint(host, c));
  e.push = true;
  out.push_back(std::move(e));
  return out;
}

void hosts::set_plain(const std::string& host) {
  std::lock_guard lock(mutex_);
  plain_.insert(host);
}

bool hosts::is_plain(const std::string& host) const {
  std::lock_guard lock(mutex_);
  return plain_.contains(host);
}

}  // namespace kiln::distribution
