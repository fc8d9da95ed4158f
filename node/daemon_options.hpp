// The daemon's configuration as its parts take it.
#pragma once

#include "base/result.hpp"
#include "configs/daemon_config.hpp"
#include "gateway/server.hpp"
#include "workers/executor/executor.hpp"

namespace kiln::node {

/// Where clients come, and who owns its sockets; not_found for a group that this machine has none of.
result<gateway::server_options> gateway_options(const configs::daemon_config& c);
workers::executor_options executor_options(const configs::daemon_config& c);

}  // namespace kiln::node
