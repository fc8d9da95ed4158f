#include "workers/sources/source_form.hpp"

#include <algorithm>
#include <string_view>

#include "base/url.hpp"
#include "messages/image_reference.hpp"
#include "distribution/hosts.hpp"
#include "workers/sources/git_reference.hpp"

namespace kiln::workers {
namespace {

constexpr const char* full_url = "git.fullurl";
/// Where a git source really comes from: of another repository they say nothing.
constexpr const char* git_places[] = {full_url, git_bundle_attribute, "oci.session", "oci.store"};
constexpr std::string_view hub = "docker.io", hub_hosts[] = {"index.docker.io", "registry-1.docker.io"};

struct parts {
  std::string scheme, rest;
};

parts split(const std::string& identifier) {
  auto end = identifier.find("://");
  if (end == std::string::npos) return {"", identifier};
  return {identifier.substr(0, end), identifier.substr(end + 3)};
}

/// Of a registry: the name says where it is.
bool is_image(const std::string& scheme) { return scheme == "docker-image" || scheme == "docker-image+blob"; }

/// Of a client's store, which an attribute names: nothing is asked of the host that the reference begins
/// with.
bool is_layout(const std::string& scheme) { return scheme == "oci-layout" || scheme == "oci-layout+blob"; }

bool is_web(const std::string& scheme) { return scheme == "http" || scheme == "https"; }

/// Where a name's host leads: in lower case, without the port that is used anyway.
result<std::string> registry_place(const std::string& domain) {
  KILN_TRY(auto u, parse_url("https://" + domain));
  if (distribution::is_localhost(u.host)) {
    KILN_TRY(u, parse_url("http://" + domain));
  }
  auto place = u.authority();
  // A name without any of this would begin with a path on the hub.
  if (place.find_first_of(".:") == std::string::npos && place != "localhost") place += ":443";
  bool is_hub = std::find(std::begin(hub_hosts), std::end(hub_hosts), place) != std::end(hub_hosts);
  return is_hub ? std::string(hub) : place;
}

std::string attribute(const pb::SourceOp& source, const char* name) {
  auto found = source.attrs().find(name);
  return found == source.attrs().end() ? "" : found->second;
}

/// "https://host/x" and "u:p" to "https://u:p@host/x".
std::string with_user(const std::string& url, const std::string& user_info) {
  auto at = url.find("://") + 3;
  return url.substr(0, at) + user_info + "@" + url.substr(at);
}

}  // namespace

bool may_lead_elsewhere(const pb::SourceOp& source) {
  auto [scheme, rest] = split(source.identifier());
  if (scheme == "docker-image") {
    auto ref = parse_image_reference(rest);
    return !ref.ok() || !ref->digest;
  }
  if (scheme == "http" || scheme == "https") return attribute(source, "http.checksum").empty();
  if (scheme != "git") return false;
  auto r = parse_git_place(source);
  return !r.ok() || !is_commit_sha(r->ref);
}

void source_form::keep(std::string place, std::string spelling) {
  place_ = std::move(place);
  spelling_ = std::move(spelling);
}

status source_form::rewrite(pb::SourceOp& source, const pb::SourceOp* former) {
  // A pattern's "." does not match line breaks, and no source that can be fetched has any.
  const auto& id = source.identifier();
  if (std::any_of(id.begin(), id.end(), [](unsigned char c) { return c < ' ' || c == 0x7f; }))
    return make_error(errc::invalid_argument, "source identifier with control characters");
  auto scheme = split(id).scheme;
  if (former != nullptr && !is_image(scheme) && !is_layout(scheme) && !is_web(scheme) && scheme != "git" &&
      scheme != "local")
    return make_error(errc::invalid_argument, scheme.empty()
                                                  ? "a source without a scheme"
                                                  : "source scheme \"" + scheme + "\", which is unknown");
  auto s = is_image(scheme)    ? rewrite_image(source)
           : is_layout(scheme) ? rewrite_layout(source)
           : is_web(scheme)    ? rewrite_web(source)
           : scheme == "git"   ? rewrite_git(source, former)
                               : status();
  if (!s.ok()) return std::move(s).error().with_context("source \"" + scheme + "://…\" cannot be read");
  return {};
}

status source_form::rewrite_image(pb::SourceOp& source) {
  auto [scheme, rest] = split(source.identifier());
  KILN_TRY(auto ref, read_image_reference(rest));
  KILN_TRY(auto place, registry_place(ref.domain));
  if (place != ref.domain) {
    keep(place, ref.domain);
    ref.domain = place;
    if (place == hub && ref.path.find('/') == std::string::npos) ref.path = "library/" + ref.path;
  }
  source.set_identifier(scheme + "://" + ref.str());
  return {};
}

/// Only a name without any host is written in full: elsewhere it could not be read.
status source_form::rewrite_layout(pb::SourceOp& source) {
  auto [scheme, rest] = split(source.identifier());
  KILN_TRY(auto ref, read_image_reference(rest));
  if (rest.find('/') == std::string::npos) source.set_identifier(scheme + "://" + ref.str());
  return {};
}

status source_form::rewrite_web(pb::SourceOp& source) {
  KILN_TRY(auto u, parse_url(source.identifier()));
  if (!u.user_info.empty()) keep(u.origin(), u.user_info);
  source.set_identifier(u.str());
  return {};
}

status source_form::rewrite_git(pb::SourceOp& source, const pb::SourceOp* former) {
  // A conversion that names another repository means it, though the full URL and the bundle still tell of the
  // former.
  auto repository = [](const pb::SourceOp& s) { return s.identifier().substr(0, s.identifier().find('#')); };
  if (former != nullptr && repository(*former) != repository(source))
    for (const char* place : git_places)
      if (attribute(*former, place) == attribute(source, place)) source.mutable_attrs()->erase(place);
  KILN_TRY(auto r, parse_git_place(source));
  const auto& u = r.where.url;
  if (u.scheme != "ssh" && !u.user_info.empty()) keep(u.origin(), u.user_info);
  (*source.mutable_attrs())[full_url] = r.where.str(false);
  auto id = "git://" + r.where.place();
  if (!r.ref.empty() || !r.subdir.empty()) id += "#" + r.ref;
  if (!r.subdir.empty()) id += ":" + r.subdir;
  source.set_identifier(std::move(id));
  return {};
}

void source_form::restore(pb::SourceOp& source) const {
  if (spelling_.empty()) return;
  auto [scheme, rest] = split(source.identifier());
  if (is_image(scheme)) {
    auto ref = read_image_reference(rest);
    if (!ref.ok() || ref->domain != place_) return;
    ref->domain = spelling_;
    source.set_identifier(scheme + "://" + ref->str());
  } else if (is_web(scheme)) {
    if (same_origin(source.identifier(), place_))
      source.set_identifier(with_user(source.identifier(), spelling_));
  } else if (scheme == "git") {
    auto url = attribute(source, full_url);
    if (same_origin(url, place_)) (*source.mutable_attrs())[full_url] = with_user(url, spelling_);
  }
}

}  // namespace kiln::workers
