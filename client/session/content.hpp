// Serves blob directories over containerd's content API; the daemon chooses one by the
// "buildkit-attachable-store-id" header. Source: buildkit session/content, containerd services/content.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "client/session/blob_directory.hpp"
#include "client/session/service.hpp"

namespace kiln::client {

std::unique_ptr<session_service> make_content_service(
    std::map<std::string, std::shared_ptr<blob_directory>> stores);

}  // namespace kiln::client
