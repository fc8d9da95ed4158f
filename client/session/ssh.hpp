// Forwards SSH agents to the build: a running agent behind a filter that only lets it list and sign, an agent
// of our own that holds key files, or (raw) any unix socket as it is.
#pragma once

#include <memory>
#include <vector>

#include "client/build/request.hpp"
#include "client/session/service.hpp"

namespace kiln::client {

/// Checks and loads the sources. Errors name the id and the path.
/// Source: buildkit session/sshforward/sshprovider.
result<std::unique_ptr<session_service>> make_ssh_service(const std::vector<ssh_source>& sources);

}  // namespace kiln::client
