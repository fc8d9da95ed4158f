#include "exporters/provenance/capture.hpp"

#include <algorithm>
#include <set>

#include "exporters/provenance/purl.hpp"
#include "registry/reference.hpp"

namespace kiln::exporters {

namespace {

bool same_platform(const std::optional<platform>& a, const std::optional<platform>& b) {
  if (!a || !b) return !a && !b;
  return a->os == b->os && a->architecture == b->architecture && a->variant == b->variant &&
         a->os_version == b->os_version;
}

void add_to(std::vector<captured_secret>& known, captured_secret secret) {
  auto found = std::find_if(known.begin(), known.end(), [&](const auto& k) { return k.id == secret.id; });
  if (found == known.end()) {
    known.push_back(std::move(secret));
  } else if (!secret.optional) {
    found->optional = false;
  }
}

std::string attribute(const pb::SourceOp& op, const char* key) {
  auto found = op.attrs().find(key);
  return found == op.attrs().end() ? std::string() : found->second;
}

}  // namespace

void capture::add_source(const pb::SourceOp& op, const platform& p, const std::string& origin, const std::string& pin) {
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

void capture::add_image(captured_image image) {
  for (const auto& known : images)
    if (known.ref == image.ref && known.local == image.local && known.is_blob == image.is_blob &&
        same_platform(known.platform, image.platform))
      return;
  images.push_back(std::move(image));
}

void capture::add_git(captured_git source) {
  source.url = redact_credentials(source.url);
  for (const auto& known : git)
    if (known.url == source.url && known.bundle == source.bundle) return;
  git.push_back(std::move(source));
}

void capture::add_http(captured_http file) {
  file.url = redact_credentials(file.url);
  for (const auto& known : http)
    if (known.url == file.url) return;
  http.push_back(std::move(file));
}

void capture::add_local(const std::string& name) {
  if (std::find(locals.begin(), locals.end(), name) == locals.end()) locals.push_back(name);
}

void capture::add_secret(captured_secret secret) { add_to(secrets, std::move(secret)); }

void capture::add_ssh(captured_secret agent) {
  if (agent.id.empty()) agent.id = "default";
  add_to(ssh, std::move(agent));
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
}

status capture::finish() {
  std::set<std::string> tagged;
  std::vector<registry::reference> refs;
  for (const auto& i : images) {
    KILN_TRY(auto ref, registry::parse_reference(i.ref));
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
  std::stable_sort(images.begin(), images.end(), [](const auto& a, const auto& b) { return a.is_blob < b.is_blob; });
  sort(git, &captured_git::url);
  sort(http, &captured_http::url);
  std::sort(locals.begin(), locals.end());
  sort(secrets, &captured_secret::id);
  sort(ssh, &captured_secret::id);
  return {};
}

}  // namespace kiln::exporters
