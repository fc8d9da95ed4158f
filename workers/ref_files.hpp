// Looking into a mounted tree that is not ours: read, list and stat, never leaving its root.
// Blocking kernel calls; any thread. Source: cache/util/fsutil.go.
#pragma once

#include <filesystem>

#include "base/result.hpp"
#include "gateway.pb.h"

namespace kiln::workers {

namespace gw = moby::buildkit::v1::frontend;

/// Symlinks resolve inside the root. Errors name the path asked for: not_found, failed_precondition for
/// what is no regular file, resource_exhausted beyond `limit` bytes.
result<gw::ReadFileResponse> read_file(const std::filesystem::path& root, const gw::ReadFileRequest& request,
                                       std::int64_t limit);
/// Entries by name; those that match the pattern when there is one.
result<gw::ReadDirResponse> read_dir(const std::filesystem::path& root, const gw::ReadDirRequest& request);
result<gw::StatFileResponse> stat_file(const std::filesystem::path& root, const gw::StatFileRequest& request);

}  // namespace kiln::workers
