#include "workers/sources/git_reference.hpp"

#include <algorithm>
#include <cctype>

#include "base/slash_path.hpp"
#include "base/text.hpp"
#include "base/url.hpp"
#include "configs/compatibility.hpp"

namespace kiln::workers {

namespace {

/// Among an op's attributes, so that it makes another op of it, which has other results.
constexpr const char* writable_files_attribute = "kiln.git.writablefiles";

error invalid(std::string text) { return make_error(errc::invalid_argument, std::move(text)); }

bool is_hex(std::string_view text) {
  return !text.empty() &&
         std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isxdigit(c); });
}

/// What a path means that is no URL's, as a URL's.
std::string escaped(std::string_view path) {
  std::string out;
  for (char c : path) {
    bool means_itself = c != '%' && c != '?' && static_cast<unsigned char>(c) < 0x80;
    out += means_itself ? std::string(1, c) : url_escape({&c, 1});
  }
  return out;
}

bool has_blanks(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](unsigned char c) { return c <= ' ' || c == 0x7f; });
}

/// "user@host:path", git's short form of ssh; nothing when it is none. Source: util/sshutil/scpurl.go.
std::optional<git_remote> parse_short_form(std::string_view text) {
  auto at = text.find('@');
  auto colon = text.find(':', at == text.npos ? 0 : at);
  if (at == text.npos || at == 0 || colon == text.npos || colon == at + 1) return std::nullopt;
  auto user = text.substr(0, at), host = text.substr(at + 1, colon - at - 1), path = text.substr(colon + 1);
  auto all = [](std::string_view s, std::string_view marks) {
    return std::all_of(s.begin(), s.end(), [&](unsigned char c) {
      return (c < 0x80 && std::isalnum(c)) || marks.find(static_cast<char>(c)) != marks.npos;
    });
  };
  if (!all(user, "-_") || !all(host, "-.") || user[0] == '-' || host[0] == '-') return std::nullopt;
  if (has_blanks(path) || path.find('#') != path.npos) return std::nullopt;
  auto clean = clean_path(path.starts_with("~/") ? path.substr(2) : path);
  // The host as other URLs have it.
  auto address = parse_url("ssh://" + std::string(user) + "@" + std::string(host) + "/");
  if (!address.ok()) return std::nullopt;
  git_remote out{*std::move(address), !clean.starts_with('/')};
  out.url.path = escaped(clean);
  return out;
}

/// What is below a user's home has the short form, if that can say it.
git_remote in_shortest_form(parsed_url url) {
  git_remote shorter{url, true};
  if (url.scheme == "ssh" && url.path.starts_with("/~/")) {
    shorter.url.path.erase(0, 3);
    auto same = parse_short_form(shorter.str());
    if (same && same->home && same->url.user_info == url.user_info && same->url.str() == shorter.url.str())
      return shorter;
  }
  return {std::move(url), false};
}

result<remote_blob> parse_bundle_place(const std::string& text) {
  auto end = text.find("://");
  if (end == std::string::npos)
    return invalid("failed to parse git.bundle locator \"" + text + "\": missing scheme");
  auto scheme = text.substr(0, end);
  if (scheme != "docker-image+blob" && scheme != "oci-layout+blob")
    return invalid("git.bundle locator scheme \"" + scheme +
                   "\" is not supported; expected \"docker-image+blob\" or \"oci-layout+blob\"");
  auto blob = parse_remote_blob(text);
  if (!blob.ok())
    return std::move(blob).error().with_context("failed to parse git.bundle locator \"" + text + "\"");
  if (blob->ref.digest.algorithm() != "sha256")
    return invalid("git.bundle locator \"" + text + "\": digest algorithm \"" +
                   std::string(blob->ref.digest.algorithm()) + "\" not supported, expected \"sha256\"");
  return blob;
}

status apply_attribute(git_reference& r, const std::string& key, const std::string& value) {
  if (key == "git.keepgitdir") r.keep_git_dir = value == "true";
  else if (key == "git.authheadersecret") r.auth_header_secret = value;
  else if (key == "git.authtokensecret") r.auth_token_secret = value;
  else if (key == "git.knownsshhosts") r.known_ssh_hosts = value;
  else if (key == "git.mountsshsock") r.ssh_id = value;
  else if (key == "git.checksum") r.checksum = value;
  else if (key == "git.skipsubmodules") r.skip_submodules = value == "true";
  else if (key == "git.fetchbycommit") r.fetch_by_commit = value == "true";
  else if (key == "git.mtime") r.mtime = value == "checkout" ? "" : value;
  else if (key == "git.checkoutbundle") r.checkout_bundle = value == "true";
  else if (key == writable_files_attribute) r.writable_files = value == "true";
  else if (key == git_bundle_attribute && !value.empty()) {
    KILN_TRY(r.bundle, parse_bundle_place(value));
  } else if (key.starts_with("git.sig.")) {
    if (!r.signature) r.signature.emplace();
    if (key == "git.sig.pubkey") r.signature->keys = value;
    else if (key == "git.sig.rejectexpired") r.signature->reject_expired_keys = value == "true";
    else if (key == "git.sig.requiresignedtag") r.signature->require_signed_tag = value == "true";
    else if (key == "git.sig.ignoresignedtag") r.signature->ignore_signed_tag = value == "true";
  }
  return {};
}

status check_bundles(const git_reference& r) {
  if (r.bundle) {
    if (r.checksum.empty()) return invalid("git.bundle requires git.checksum to be set");
    if (is_commit_sha(r.ref) && !r.ref.starts_with(r.checksum))
      return invalid("expected checksum to match " + r.checksum + ", got " + r.ref);
  }
  if (r.checkout_bundle && r.keep_git_dir)
    return invalid("git.checkoutbundle is incompatible with git.keepgitdir");
  if (r.checkout_bundle && !r.subdir.empty())
    return invalid("git.checkoutbundle is incompatible with git.subdir");
  return {};
}

}  // namespace

std::string git_remote::str(bool sign_in) const {
  if (home) return url.user_info + "@" + url.host + ":" + url_unescape(url.path);
  auto user = sign_in || url.scheme == "ssh" ? url.user_info : "";
  auto out = url.scheme + "://" + (user.empty() ? "" : user + "@") + url.authority() + url.path;
  return url.query.empty() ? out : out + "?" + url.query;
}

std::string git_remote::place() const {
  auto path = clean_path("/" + url.path);
  // Their home's own name for itself.
  if (url.scheme == "ssh" && path.starts_with("/~/")) path.erase(0, 2);
  return url.authority() + (path == "/" ? "" : path);
}

result<git_remote> parse_git_remote(std::string_view text) {
  text = text.substr(0, text.find('#'));
  if (has_blanks(text)) return invalid("git remote with blanks or control characters");
  auto end = text.find("://");
  bool schemed = end != text.npos;
  std::string scheme(text.substr(0, schemed ? end : 0));
  scheme = to_lower(scheme);
  if (schemed && scheme != "http" && scheme != "https" && scheme != "ssh" && scheme != "git")
    return invalid("git protocol \"" + scheme + "\" is not allowed: use https, http, ssh or git");
  if (!schemed) {
    if (auto found = parse_short_form(text)) {
      if (found->url.path == ".." || found->url.path.starts_with("../"))
        return invalid("git remote that leaves its user's home");
      return *std::move(found);
    }
  }
  KILN_TRY(auto url, parse_url(schemed ? std::string(text) : "https://" + std::string(text)));
  url.path = clean_path(url.path);
  if (url.scheme == "ssh") url.user_info = url.user_info.substr(0, url.user_info.find(':'));  // no password
  return in_shortest_form(std::move(url));
}

status check_git_ref(const std::string& ref) {
  if (ref.empty()) return {};
  if (ref[0] == '-') return invalid("invalid git ref \"" + ref + "\": starts with a dash");
  for (unsigned char c : ref)
    if (c <= ' ' || c == 0x7f || c == ':' || c == '^' || c == '~' || c == '?' || c == '*' || c == '[' ||
        c == '\\')
      return invalid("invalid git ref \"" + ref + "\"");
  if (ref.find("..") != std::string::npos) return invalid("invalid git ref \"" + ref + "\"");
  return {};
}

bool is_commit_sha(std::string_view text) { return (text.size() == 40 || text.size() == 64) && is_hex(text); }

std::string redact_credentials(std::string_view url) {
  auto scheme = url.find("://");
  if (scheme == std::string_view::npos) return std::string(url);
  auto start = scheme + 3;
  auto end = url.find('/', start);
  auto authority = url.substr(start, end == std::string_view::npos ? end : end - start);
  auto at = authority.rfind('@');
  if (at == std::string_view::npos) return std::string(url);
  auto user = authority.substr(0, at);
  auto colon = user.find(':');
  if (colon == std::string_view::npos) return std::string(url);
  return std::string(url.substr(0, start)) + std::string(user.substr(0, colon)) + ":xxxxx" +
         std::string(url.substr(start + at));
}

std::string git_reference::cache_key(std::string_view sha, std::string_view used_ref) const {
  std::string key{sha};
  if (keep_git_dir) {
    key += ".git";
    if (!used_ref.empty()) key += "#" + std::string(used_ref);
  }
  if (!subdir.empty()) key += ":" + subdir;
  if (skip_submodules) key += "(skip-submodules)";
  if (!mtime.empty()) key += "(mtime=" + mtime + ")";
  // Other than upstream's: the ref is in the bundle.
  if (checkout_bundle) key += is_commit_sha(used_ref) ? "(bundle)" : "(bundle=" + std::string(used_ref) + ")";
  if (writable_files && !checkout_bundle) key += "(writable)";
  return key;
}

void set_compatibility(pb::SourceOp& source, int version) {
  auto& attributes = *source.mutable_attrs();
  attributes.erase(writable_files_attribute);
  if (version == configs::compatibility::v0_13 && source.identifier().starts_with("git://"))
    attributes[writable_files_attribute] = "true";
}

result<git_reference> parse_git_place(const pb::SourceOp& op) {
  constexpr std::string_view scheme = "git://";
  std::string_view rest = op.identifier();
  if (!rest.starts_with(scheme)) return invalid("invalid git source \"" + op.identifier() + "\"");
  rest.remove_prefix(scheme.size());
  git_reference r;
  auto hash = rest.find('#');
  std::string remote{rest.substr(0, hash)};
  if (hash != std::string_view::npos) {
    auto fragment = rest.substr(hash + 1);
    auto colon = fragment.find(':');
    r.ref = fragment.substr(0, colon);
    if (colon != std::string_view::npos) r.subdir = clean_absolute(fragment.substr(colon + 1)).substr(1);
  }
  if (remote.empty()) return invalid("git source without a repository: \"" + op.identifier() + "\"");
  // With a full URL the identifier is only a name for it.
  auto full = op.attrs().find("git.fullurl");
  bool named = full != op.attrs().end() && !full->second.empty();
  auto where = parse_git_remote(named ? full->second : remote);
  if (!where.ok()) return std::move(where).error().with_context(named ? "git.fullurl" : "git source");
  r.where = *std::move(where);
  if (!named && !r.where.url.query.empty()) {  // a name has none, and may be shorter without
    r.where.url.query.clear();
    r.where = in_shortest_form(std::move(r.where.url));
  }
  KILN_CHECK(check_git_ref(r.ref));
  r.remote = r.where.str();
  return r;
}

result<git_reference> parse_git_source(const pb::SourceOp& op) {
  KILN_TRY(auto r, parse_git_place(op));
  for (const auto& [key, value] : op.attrs()) KILN_CHECK(apply_attribute(r, key, value));
  if (r.bundle) {
    if (auto session = op.attrs().find("oci.session"); session != op.attrs().end())
      r.bundle->session = session->second;
    if (auto store = op.attrs().find("oci.store"); store != op.attrs().end() && !store->second.empty())
      r.bundle->store_id = store->second;
  }
  KILN_CHECK(check_bundles(r));
  if (!r.checksum.empty() && !is_hex(r.checksum))
    return invalid("invalid checksum " + r.checksum + " for Git URL, expected hex commit hash");
  if (r.signature && r.signature->keys.empty())
    return invalid("git signature verification needs git.sig.pubkey");
  if (r.fetch_by_commit && !r.bundle && !is_commit_sha(r.ref)) {
    if (r.checksum.empty()) return invalid("fetch-by-commit requires a checksum or a commit SHA ref");
    if (!is_commit_sha(r.checksum))
      return invalid("fetch-by-commit requires a full commit SHA checksum, got \"" + r.checksum + "\"");
  }
  return r;
}

}  // namespace kiln::workers
