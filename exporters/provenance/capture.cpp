#include "exporters/provenance/capture.hpp"

#include <algorithm>
#include <set>
#include <tuple>

#include "exporters/provenance/purl.hpp"
#include "messages/image_reference.hpp"
#include "messages/proxy_capture.hpp"

namespace kiln::exporters {

namespace {

std::string attribute(const pb::SourceOp& op, const char* key) {
  auto found = op.attrs().find(key);
  return found == op.attrs().end() ? std::string() : found->second;
}

}  // namespace

void capture::add_source(const pb::SourceOp& op, const platform& p, const std::string& origin,
                         const std::string& pin) {
  const auto& id = op.identifier();
  auto scheme = id.substr(0, id.find("://"));
  if (scheme == "docker-image") {
    add_image({origin, p, pin});
  } else if (scheme == "oci-layout") {
    add_image({origin, p, pin, true});
  } else if (scheme == "docker-image+blob") {
    add_image({origin, {}, pin, false, true});
  } else if (scheme == "oci-layout+blob") {
    add_image({origin, {}, pin, true, true});
  } else if (scheme == "git") {
    add_git({origin, pin, attribute(op, "git.bundle")});
    for (const char* key : {"git.authtokensecret", "git.authheadersecret"})
      if (auto name = attribute(op, key); !name.empty()) add_secret({name, true});
    if (auto agent = attribute(op, "git.mountsshsock"); !agent.empty()) add_ssh({agent, true});
  } else if (scheme == "http" || scheme == "https") {
    add_http({origin, pin});
  } else if (scheme == "local") {
    add_local(origin);
  }
}

void capture::add_op(const pb::Op& op) {
  if (op.has_build()) incomplete_materials = true;
  if (!op.has_exec()) return;
  const auto& exec = op.exec();
  for (const auto& m : exec.mounts()) {
    if (m.mounttype() == pb::SECRET) add_secret({m.secretopt().id(), m.secretopt().optional()});
    if (m.mounttype() == pb::SSH) add_ssh({m.sshopt().id(), m.sshopt().optional()});
  }
  for (const auto& s : exec.secretenv()) add_secret({s.id(), s.optional()});
  if (exec.network() != pb::NONE) network_access = true;
}

void capture::add_proxied(const std::string& op, const std::string& name, std::string_view fetched) {
  proxy_network = true;
  auto known = parse_proxy_capture(fetched);
  if (!known.ok()) {
    incomplete_materials = true;
    gaps.push_back({op, name, "", "", "not_recorded"});
    return;
  }
  for (auto& m : known->materials) add_http({std::move(m.url), std::move(m.digest)});
  for (auto& g : known->gaps) {
    incomplete_materials = true;
    gaps.push_back({op, name, std::move(g.method), std::move(g.url), std::move(g.reason)});
  }
}

bool capture::is_new(std::string_view kind, std::initializer_list<std::string_view> parts) {
  std::string key(kind);
  for (auto part : parts) {
    key += '\0';
    key += part;
  }
  return known_.insert(std::move(key)).second;
}

void capture::add_to(std::vector<captured_secret>& list, secret_places& places, captured_secret secret) {
  auto [place, fresh] = places.try_emplace(secret.id, list.size());
  if (fresh) list.push_back(std::move(secret));
  else if (!secret.optional) list[place->second].optional = false;
}

void capture::add_image(captured_image image) {
  const auto& p = image.platform;
  bool fresh = is_new(
      "image", {image.ref, image.local ? "local" : "", image.is_blob ? "blob" : "", p ? "of" : "",
                p ? p->os : "", p ? p->architecture : "", p ? p->variant : "", p ? p->os_version : ""});
  if (fresh) images.push_back(std::move(image));
}

void capture::add_git(captured_git source) {
  source.url = redact_credentials(source.url);
  if (is_new("git", {source.url, source.bundle})) git.push_back(std::move(source));
}

void capture::add_http(captured_http file) {
  file.url = redact_credentials(file.url);
  if (is_new("http", {file.url})) http.push_back(std::move(file));
}

void capture::add_local(const std::string& name) {
  if (is_new("local", {name})) locals.push_back(name);
}

void capture::add_secret(captured_secret secret) { add_to(secrets, secret_places_, std::move(secret)); }

void capture::add_ssh(captured_secret agent) {
  if (agent.id.empty()) agent.id = "default";
  add_to(ssh, ssh_places_, std::move(agent));
}

void capture::merge(const capture& other) {
  for (const auto& i : other.images) add_image(i);
  for (const auto& g : other.git) add_git(g);
  for (const auto& h : other.http) add_http(h);
  for (const auto& l : other.locals) add_local(l);
  for (const auto& s : other.secrets) add_secret(s);
  for (const auto& s : other.ssh) add_ssh(s);
  network_access |= other.network_access;
  incomplete_materials |= other.incomplete_materials;
  proxy_network |= other.proxy_network;
  gaps.insert(gaps.end(), other.gaps.begin(), other.gaps.end());
}

status capture::finish() {
  std::set<std::string> tagged;
  std::vector<image_reference> refs;
  for (const auto& i : images) {
    KILN_TRY(auto ref, read_image_reference(i.ref));
    if (!ref.digest) tagged.insert(ref.name() + ":" + (ref.tag.empty() ? "latest" : ref.tag));
    refs.push_back(std::move(ref));
  }
  std::vector<captured_image> kept;
  for (std::size_t n = 0; n < images.size(); ++n) {
    const auto& ref = refs[n];
    bool has_tag = ref.digest && tagged.contains(ref.name() + ":" + (ref.tag.empty() ? "latest" : ref.tag));
    if (images[n].is_blob || !has_tag) kept.push_back(std::move(images[n]));
  }
  images = std::move(kept);
  auto sort = [](auto& list, auto key) {
    std::stable_sort(list.begin(), list.end(), [&](const auto& a, const auto& b) { return a.*key < b.*key; });
  };
  sort(images, &captured_image::ref);
  std::stable_sort(images.begin(), images.end(),
                   [](const auto& a, const auto& b) { return a.is_blob < b.is_blob; });
  sort(git, &captured_git::url);
  sort(http, &captured_http::url);
  std::sort(locals.begin(), locals.end());
  sort(secrets, &captured_secret::id);
  sort(ssh, &captured_secret::id);
  auto parts = [](const captured_gap& g) { return std::tie(g.op, g.uri, g.method, g.reason); };
  std::sort(gaps.begin(), gaps.end(), [&](const auto& a, const auto& b) { return parts(a) < parts(b); });
  // Refs of one build share steps.
  auto same = [&](const auto& a, const auto& b) { return parts(a) == parts(b); };
  gaps.erase(std::unique(gaps.begin(), gaps.end(), same), gaps.end());
  return {};
}

}  // namespace kiln::exporters
