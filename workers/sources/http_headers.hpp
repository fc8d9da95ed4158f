// The headers that a download is asked with: those of its source, and authorization by secrets of the build's
// clients.
#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"
#include "distribution/hosts.hpp"
#include "messages/job.hpp"
#include "workers/sources/http_reference.hpp"

namespace kiln::workers {

/// "Name: value" each. Asks clients. What is meant for the host alone is not sent in the clear, unless its
/// registry settings allow that; a warning tells so. Errors: a secret that the source names and nobody has,
/// one with a line break.
result<std::vector<std::string>> download_headers(const http_reference& w, const distribution::hosts& hosts,
                                                  const job_context& job);

}  // namespace kiln::workers
