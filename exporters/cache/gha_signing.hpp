// Signatures of caches in GitHub's Actions cache: a program of the operator's makes them, Sigstore's rules
// and the operator's policy check them. Blocking. Source: cache/remotecache/gha/gha.go.
#pragma once

#include <string>

#include "configs/daemon_config.hpp"
#include "messages/job.hpp"

namespace kiln::exporters {

/// What the program writes when it gets the text: a bundle, checked as others will. failed_precondition with
/// what the program says when it fails.
result<std::string> sign_cache(const configs::gha_cache_config& config, const std::string& text,
                               const job_context& job);

/// permission_denied when the bundle is no signature of the text, or of nobody whom the policy takes.
status check_cache_signature(const configs::gha_cache_config& config, const std::string& text,
                             const std::string& bundle);

/// Whether a text is as a pattern says: "*" stands for anything, at the beginning, at the end, or both.
bool matches_pattern(const std::string& pattern, const std::string& text);

}  // namespace kiln::exporters
