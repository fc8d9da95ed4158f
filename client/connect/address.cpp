#include "client/connect/address.hpp"

#include <algorithm>
#include <map>

#include <fmt/format.h>

#include "base/url.hpp"

namespace kiln::client {
namespace {

error bad(std::string_view text, std::string_view why) {
  return make_error(errc::invalid_argument, fmt::format("invalid address {}: {}", text, why));
}

// Source: Kubernetes object names; buildkit client/connhelper/kubepod.
bool kube_identifier(std::string_view s) {
  return !s.empty() && std::all_of(s.begin(), s.end(), [](char c) {
    return c == '-' || c == '.' || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
  });
}

/// The parts of an address. Those of containers and pods are names and not hosts: their case stays, which it
/// does not in what base/url reads. Percent escapes in the query and path are decoded.
struct url_parts {
  std::string scheme, user, password, host, port, path, fragment;
  bool has_password = false;
  std::map<std::string, std::string> query;
  std::string raw_query;
};

result<url_parts> take_apart(std::string_view text) {
  auto scheme_end = text.find("://");
  if (scheme_end == std::string_view::npos || scheme_end == 0)
    return bad(text, "must be of the form <scheme>://<address>, e.g. unix:///run/buildkit/buildkitd.sock");
  url_parts url;
  url.scheme = text.substr(0, scheme_end);
  auto rest = text.substr(scheme_end + 3);
  if (auto hash = rest.find('#'); hash != std::string_view::npos) {
    url.fragment = rest.substr(hash + 1);
    rest = rest.substr(0, hash);
  }
  if (auto mark = rest.find('?'); mark != std::string_view::npos) {
    url.raw_query = rest.substr(mark + 1);
    rest = rest.substr(0, mark);
    std::string_view query = url.raw_query;
    while (!query.empty()) {
      auto end = std::min(query.find('&'), query.size());
      auto pair = query.substr(0, end);
      auto equals = std::min(pair.find('='), pair.size());
      url.query[url_unescape(pair.substr(0, equals), true)] =
          url_unescape(pair.substr(std::min(equals + 1, pair.size())), true);
      query.remove_prefix(std::min(end + 1, query.size()));
    }
  }
  auto slash = std::min(rest.find('/'), rest.size());
  auto authority = rest.substr(0, slash);
  url.path = url_unescape(rest.substr(slash), false);
  if (auto at = authority.rfind('@'); at != std::string_view::npos) {
    auto user = authority.substr(0, at);
    auto colon = user.find(':');
    url.user = url_unescape(user.substr(0, colon), false);
    if (colon != std::string_view::npos) {
      url.has_password = true;
      url.password = url_unescape(user.substr(colon + 1), false);
    }
    authority = authority.substr(at + 1);
  }
  if (authority.starts_with('[')) {
    auto close = authority.find(']');
    if (close == std::string_view::npos) return bad(text, "missing ']' in host");
    url.host = authority.substr(1, close - 1);
    authority = authority.substr(close + 1);
    if (authority.starts_with(':')) url.port = authority.substr(1);
  } else {
    auto colon = authority.rfind(':');
    url.host = authority.substr(0, colon);
    if (colon != std::string_view::npos) url.port = authority.substr(colon + 1);
  }
  return url;
}

std::string query_value(const url_parts& url, const std::string& key) {
  auto it = url.query.find(key);
  return it == url.query.end() ? std::string() : it->second;
}

result<daemon_address> ssh_address(std::string_view text, const url_parts& url) {
  if (url.has_password) return bad(text, "plain-text password is not supported");
  if (url.host.empty()) return bad(text, "no host specified");
  if (!url.raw_query.empty())
    return bad(text, fmt::format("extra query after the host: \"{}\"", url.raw_query));
  if (!url.fragment.empty())
    return bad(text, fmt::format("extra fragment after the host: \"{}\"", url.fragment));
  daemon_address out{
      .how = daemon_address::kind::command, .path = {}, .host_port = {}, .host = url.host, .argv = {"ssh"}};
  if (!url.user.empty()) out.argv.insert(out.argv.end(), {"-l", url.user});
  if (!url.port.empty()) out.argv.insert(out.argv.end(), {"-p", url.port});
  out.argv.insert(out.argv.end(), {"--", url.host, "buildctl"});
  if (!url.path.empty()) out.argv.insert(out.argv.end(), {"--addr", "unix://" + url.path});
  out.argv.push_back("dial-stdio");
  return out;
}

result<daemon_address> kube_address(std::string_view text, const url_parts& url) {
  auto space = query_value(url, "namespace");
  auto container = query_value(url, "container");
  if (url.host.empty()) return bad(text, "url lacks pod name");
  if (!kube_identifier(url.host)) return bad(text, fmt::format("unsupported pod name: \"{}\"", url.host));
  if (!space.empty() && !kube_identifier(space))
    return bad(text, fmt::format("unsupported namespace name: \"{}\"", space));
  if (!container.empty() && !kube_identifier(container))
    return bad(text, fmt::format("unsupported container name: \"{}\"", container));
  return daemon_address{
      .how = daemon_address::kind::command,
      .path = {},
      .host_port = {},
      .host = url.host,
      .argv = {"kubectl", "--context=" + query_value(url, "context"), "--namespace=" + space, "exec",
               "--container=" + container, "-i", url.host, "--", "buildctl", "dial-stdio"}};
}

result<daemon_address> container_address(std::string_view text, const url_parts& url) {
  if (url.host.empty()) return bad(text, "url lacks container name");
  daemon_address out{
      .how = daemon_address::kind::command, .path = {}, .host_port = {}, .host = url.host, .argv = {}};
  if (url.scheme == "docker-container") {
    out.argv = {"docker"};
    if (auto context = query_value(url, "context"); !context.empty())
      out.argv.push_back("--context=" + context);
    out.argv.insert(out.argv.end(), {"exec", "-i"});
  } else if (url.scheme == "podman-container") {
    out.argv = {"podman", "exec", "-i"};
  } else {
    out.argv = {"nerdctl", "exec"};
    if (auto space = query_value(url, "namespace"); !space.empty())
      out.argv.insert(out.argv.end(), {"--namespace", space});
    out.argv.push_back("-i");
  }
  out.argv.insert(out.argv.end(), {url.host, "buildctl", "dial-stdio"});
  return out;
}

}  // namespace

result<daemon_address> parse_address(std::string_view text) {
  KILN_TRY(auto url, take_apart(text));
  if (url.scheme == "unix") {
    // unix://relative keeps its first part as "host", as users write it.
    auto path = std::string(text.substr(7));
    if (path.empty()) return bad(text, "no socket path");
    return daemon_address{
        .how = daemon_address::kind::unix_socket, .path = path, .host_port = {}, .host = {}, .argv = {}};
  }
  if (url.scheme == "tcp") {
    if (url.host.empty()) return bad(text, "no host specified");
    if (url.port.empty()) return bad(text, "no port specified");
    bool v6 = url.host.find(':') != std::string::npos;
    return daemon_address{.how = daemon_address::kind::tcp,
                          .path = {},
                          .host_port = (v6 ? "[" + url.host + "]" : url.host) + ":" + url.port,
                          .host = url.host,
                          .argv = {}};
  }
  if (url.scheme == "ssh") return ssh_address(text, url);
  if (url.scheme == "kube-pod") return kube_address(text, url);
  if (url.scheme == "docker-container" || url.scheme == "podman-container" ||
      url.scheme == "nerdctl-container")
    return container_address(text, url);
  if (url.scheme == "npipe") return bad(text, "named pipes exist on Windows only");
  return bad(text,
             fmt::format("unknown scheme \"{}\" (known: unix, tcp, ssh, docker-container, podman-container, "
                         "nerdctl-container, kube-pod)",
                         url.scheme));
}

}  // namespace kiln::client
