// Git references as build contexts and ADD sources name them: URLs with a query or a fragment. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "frontends/llb/ops.hpp"

namespace kiln::dockerfile {

struct git_ref {
  std::string remote;  // what git is given
  std::string host;
  std::string path;
  bool ssh = false;
  std::string ref;
  std::string subdir;
  std::string checksum;
  bool looks_local = false;  // "github.com/a/b": accepted for contexts only
  std::optional<bool> keep_git_dir;
  std::optional<bool> submodules;
  std::string mtime;
  bool fetch_by_commit = false;

  /// The source these settings mean.
  llb::git_options options() const;
};

struct git_ref_result {
  bool is_git = false;         // it is one, perhaps with an error in it
  std::optional<git_ref> ref;  // set if it is one without errors
  std::optional<error> problem;
};

/// Source: frontend/dockerfile/dfgitutil/git_ref.go, util/gitutil/git_url.go.
git_ref_result parse_git_ref(std::string_view text);

}  // namespace kiln::dockerfile
