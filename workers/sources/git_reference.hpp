// What a git source op asks for: the remote, the ref, and how to check it out. Pure.
// Source: BuildKit source/git/{identifier,source}.go, util/gitutil/git_url.go.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "base/url.hpp"
#include "ops.pb.h"
#include "workers/sources/remote_blob.hpp"

namespace kiln::workers {

/// A repository's address: http, https, ssh or git, and nothing else that git's own program would take.
struct git_remote {
  parsed_url url;     // of ssh without a password: it takes none that way
  bool home = false;  // ssh's short form "user@host:path", below the user's home; the path is then relative

  /// As clients write it; `with_user`: with what signs in over http. git's own program gets it without:
  /// programs' arguments are for every user of the machine to see.
  std::string str(bool with_user = true) const;
  /// "host[:port]/path", whatever the protocol.
  std::string place() const;
  /// The user is part of an ssh address, but only a credential elsewhere.
  bool user_is_credential() const { return url.scheme != "ssh"; }
};

/// From "https://host/path", "user@host:path" or "host/path" (https); a fragment is dropped. invalid_argument
/// for other protocols and for what cannot be read.
result<git_remote> parse_git_remote(std::string_view text);

/// That the annotated tag, or else the commit, be signed with one of the keys.
struct wanted_signature {
  std::string keys;
  bool reject_expired_keys = false;
  bool require_signed_tag = false;  // a signed commit will not do
  bool ignore_signed_tag = false;   // only the commit counts
};

struct git_reference {
  git_remote where;
  std::string remote;  // the same, with what signs in
  std::string ref;     // branch, tag, full ref or commit; empty: the default branch
  std::string subdir;  // clean, relative; empty: all
  std::string checksum;
  std::string auth_token_secret;
  std::string auth_header_secret;
  std::string ssh_id;           // agent to forward; empty: none
  std::string known_ssh_hosts;  // content of a known_hosts file
  bool keep_git_dir = false;
  bool skip_submodules = false;
  bool fetch_by_commit = false;
  std::string mtime;                  // "commit": files get the commit's time
  bool writable_files = false;        // plain files may be written by everybody, as of old
  std::optional<remote_blob> bundle;  // where the repository's content is, instead of at the remote
  bool checkout_bundle = false;       // the result is a bundle of the commit, not its files
  std::optional<wanted_signature> signature;

  bool commit_mtime() const { return mtime == "commit"; }
  /// What names the content besides the commit: suffixes of the cache key.
  std::string cache_key(std::string_view sha, std::string_view used_ref) const;
};

/// Of a source: where the bundle is that it comes from.
inline constexpr const char* git_bundle_attribute = "git.bundle";

/// Makes the source one of a build of that compatibility version (configs/compatibility.hpp). Whatever a
/// client writes at the place for it is overwritten.
void set_compatibility(pb::SourceOp& source, int version);

/// From identifier "git://host/path#ref:subdir" and attributes; invalid_argument names the attribute.
result<git_reference> parse_git_source(const pb::SourceOp& op);
/// Only what and where: remote, ref and subdirectory.
result<git_reference> parse_git_place(const pb::SourceOp& op);

/// invalid_argument for a ref that git could take for an option, a refspec or a pattern.
status check_git_ref(const std::string& ref);
/// 40 (or 64) hex digits.
bool is_commit_sha(std::string_view text);
/// The URL with its password hidden, for messages.
std::string redact_credentials(std::string_view url);

}  // namespace kiln::workers
