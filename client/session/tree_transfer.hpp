// The client's use of the tree transfer: what it changes in the trees it sends and receives.
#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"
#include "messages/session.hpp"

namespace kiln::client {

struct tree_filter {
  std::vector<std::string> include;
  std::vector<std::string> exclude;
  std::vector<std::string> follow;
};

/// Sends a directory. Owners are reset to 0, so that a context never depends on who builds.
/// Source: buildkit client/solve.go prepareSyncedFiles.
status send_tree(message_stream& stream, const std::string& directory, const tree_filter& filter);

/// Receives into a directory that exists; everything is owned by the current user. With `mirror`, what the
/// daemon does not send is deleted. Source: buildkit session/filesync syncTargetDiffCopy.
status receive_tree(message_stream& stream, const std::string& directory, bool mirror);

}  // namespace kiln::client
