// The token that a GitHub Actions runner gives its job: what it says of itself. Unverified: that is the
// service's business, whom it is sent to. Pure. Source: go-actions-cache, New.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.hpp"

namespace kiln::exporters {

/// A branch, a tag or a pull request whose caches the token is good for.
struct gha_scope {
  std::string name;  // "refs/heads/main"
  bool read = false;
  bool write = false;
};

struct gha_token {
  std::string text;
  std::vector<gha_scope> scopes;  // where to look first comes first

  /// Where what is written ends up: the last scope that may be written; empty when none may.
  std::string write_scope() const;
};

/// `now_s`: Unix epoch. invalid_argument for what is no such token, unauthenticated for one out of its time.
result<gha_token> read_gha_token(const std::string& text, std::int64_t now_s);

}  // namespace kiln::exporters
