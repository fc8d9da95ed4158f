// Exporters that the client chooses once it sees the result, and its word when they are done. Blocking.
// Source: BuildKit solver/llbsolver/export.go (getSessionExporters, finalizeSessionExport).
#pragma once

#include <map>
#include <stop_token>
#include <string>
#include <vector>

#include "messages/session.hpp"
#include "messages/solve_types.hpp"

namespace kiln::actors {

/// Empty when the client has no such service. Indexes count from `first`.
result<std::vector<export_spec>> find_session_exporters(session_directory* directory,
                                                        const std::string& session,
                                                        const std::map<std::string, std::string>& metadata,
                                                        const std::vector<std::string>& refs, int first,
                                                        std::stop_token stop);

/// Fails the build when the client says so.
status finalize_session_export(session_directory* directory, const std::string& session,
                               const std::map<std::string, std::string>& response, std::stop_token stop);

}  // namespace kiln::actors
