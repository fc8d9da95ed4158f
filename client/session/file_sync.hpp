// Lets the daemon read local directories: the build context, the Dockerfile's directory and named contexts.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "client/session/service.hpp"

namespace kiln::client {

/// `directories`: name → path. Source: buildkit session/filesync fsSyncProvider.
std::unique_ptr<session_service> make_file_sync_service(std::map<std::string, std::string> directories);

}  // namespace kiln::client
