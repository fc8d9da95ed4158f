#include "workers/sources/git_reference.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <set>
#include <vector>

namespace kiln::workers {

namespace {

error invalid(std::string text) { return make_error(errc::invalid_argument, std::move(text)); }

bool is_hex(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isxdigit(c); });
}

/// "user@host:path", git's short form of ssh.
bool is_scp_style(std::string_view text) {
  auto colon = text.find(':');
  auto at = text.find('@');
  return at != std::string_view::npos && colon != std::string_view::npos && at < colon && at > 0 &&
         text.substr(0, colon).find('/') == std::string_view::npos && text.substr(colon, 3) != "://";
}

std::string_view scheme_of(std::string_view url) {
  auto end = url.find("://");
  return end == std::string_view::npos ? std::string_view{} : url.substr(0, end);
}

bool is_git_transport(std::string_view url) {
  static const std::set<std::string_view> schemes = {"http", "https", "ssh", "git"};
  return schemes.count(scheme_of(url)) > 0 || is_scp_style(url);
}

/// Lexically cleaned and confined: "../a//b/." → "a/b".
std::string clean_relative(std::string_view path) {
  std::vector<std::string_view> parts;
  while (!path.empty()) {
    auto slash = path.find('/');
    auto part = path.substr(0, slash);
    path = slash == std::string_view::npos ? std::string_view{} : path.substr(slash + 1);
    if (part == "..") {
      if (!parts.empty()) parts.pop_back();
    } else if (!part.empty() && part != ".") {
      parts.push_back(part);
    }
  }
  std::string out;
  for (auto part : parts) out += (out.empty() ? "" : "/") + std::string(part);
  return out;
}

/// A ref that git could take for an option or a refspec is refused.
status check_ref(const std::string& ref) {
  if (ref.empty()) return {};
  if (ref[0] == '-') return invalid("invalid git ref \"" + ref + "\": starts with a dash");
  for (unsigned char c : ref)
    if (c <= ' ' || c == 0x7f || c == ':' || c == '^' || c == '~' || c == '?' || c == '*' || c == '[' || c == '\\')
      return invalid("invalid git ref \"" + ref + "\"");
  if (ref.find("..") != std::string::npos) return invalid("invalid git ref \"" + ref + "\"");
  return {};
}

status apply_attribute(git_reference& r, const std::string& key, const std::string& value) {
  if (key == "git.keepgitdir") r.keep_git_dir = value == "true";
  else if (key == "git.fullurl") r.remote = is_git_transport(value) || value.starts_with("file://") ? value : "https://" + value;
  else if (key == "git.authheadersecret") r.auth_header_secret = value;
  else if (key == "git.authtokensecret") r.auth_token_secret = value;
  else if (key == "git.knownsshhosts") r.known_ssh_hosts = value;
  else if (key == "git.mountsshsock") r.ssh_id = value;
  else if (key == "git.checksum") r.checksum = value;
  else if (key == "git.skipsubmodules") r.skip_submodules = value == "true";
  else if (key == "git.fetchbycommit") r.fetch_by_commit = value == "true";
  else if (key == "git.mtime") {
    if (value != "commit" && value != "checkout" && !value.empty())
      return invalid("invalid git.mtime \"" + value + "\": expected checkout or commit");
    r.commit_mtime = value == "commit";
  } else if (key.starts_with("git.sig.")) {
    if (!r.signature) r.signature.emplace();
    if (key == "git.sig.pubkey") r.signature->keys = value;
    else if (key == "git.sig.rejectexpired") r.signature->reject_expired_keys = value == "true";
    else if (key == "git.sig.requiresignedtag") r.signature->require_signed_tag = value == "true";
    else if (key == "git.sig.ignoresignedtag") r.signature->ignore_signed_tag = value == "true";
  } else if (key == "git.bundle" || key == "git.checkoutbundle") {
    return make_error(errc::unimplemented, "git source attribute " + key + " is not supported yet");
  }
  return {};
}

}  // namespace

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
  if (commit_mtime) key += "(mtime=commit)";
  return key;
}

result<git_reference> parse_git_source(const pb::SourceOp& op) {
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
    if (colon != std::string_view::npos) r.subdir = clean_relative(fragment.substr(colon + 1));
  }
  if (remote.empty()) return invalid("git source without a repository: \"" + op.identifier() + "\"");
  r.remote = is_git_transport(remote) ? remote : "https://" + remote;
  for (const auto& [key, value] : op.attrs()) KILN_CHECK(apply_attribute(r, key, value));
  KILN_CHECK(check_ref(r.ref));
  if (r.remote[0] == '-') return invalid("invalid git remote \"" + r.remote + "\"");
  if (!r.checksum.empty() && !is_hex(r.checksum))
    return invalid("invalid checksum " + r.checksum + " for Git URL, expected hex commit hash");
  if (r.signature && r.signature->keys.empty())
    return invalid("git signature verification needs git.sig.pubkey");
  if (r.fetch_by_commit && !is_commit_sha(r.ref)) {
    if (r.checksum.empty()) return invalid("fetch-by-commit requires a checksum or a commit SHA ref");
    if (!is_commit_sha(r.checksum))
      return invalid("fetch-by-commit requires a full commit SHA checksum, got \"" + r.checksum + "\"");
  }
  return r;
}

}  // namespace kiln::workers
