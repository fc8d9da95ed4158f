// Git bundles: files with refs and all that they lead to. Source: BuildKit source/git/bundle.go; git's
// gitformat-bundle(5).
#pragma once

#include <filesystem>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "workers/sources/git_command.hpp"

namespace kiln::workers {

/// The file in a result that is a bundle.
inline constexpr const char* bundle_name = "bundle";
/// A commit that was asked for by itself has a name in a bundle, too.
inline constexpr const char* bundle_ref_of_commit = "refs/heads/main";

struct bundle_header {
  bool sha256 = false;  // names of objects are of SHA-256, not of SHA-1
};

/// From the beginning of a file. invalid_argument when it is no bundle (a file of another kind could lead git
/// to a repository of this machine), is of a version that nobody knows, or does not stand for itself: one
/// made upon commits, or by a filter, that it does not have. Pure.
result<bundle_header> parse_bundle_header(std::string_view text);

/// Makes git.git_dir, which is empty, a bare repository with the refs of a bundle. Blocking.
status import_git_bundle(const git_command& git, const std::filesystem::path& bundle, std::stop_token stop);

/// A bundle of the commit or tag `object` of git.git_dir by the name `ref`, in `directory`, which is empty.
/// The same by the same git makes the same bytes. Blocking.
result<std::filesystem::path> make_git_bundle(const git_command& git, const std::string& object,
                                              const std::string& ref, const std::filesystem::path& directory,
                                              std::stop_token stop);

/// "git init" of a repository for objects named like `sha`.
std::vector<std::string> git_init(std::string_view sha, std::vector<std::string> more);

/// The names in a .git that is kept of what `ref` led to. As upstream's clones happen to have them: a branch
/// is there as a tag, too, and a tag that is not `annotated` as a branch. Pure.
std::vector<std::string> kept_refs(const std::string& ref, bool annotated);

}  // namespace kiln::workers
