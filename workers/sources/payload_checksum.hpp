// The checksums that signers of downloads ask for: of a file and what they append to it.
#pragma once

#include <filesystem>
#include <string>

#include "base/result.hpp"
#include "gateway.pb.h"

namespace kiln::workers {

/// "ALGORITHM:HEX" of the regular file `name` in a directory, followed by the request's suffix.
/// invalid_argument for an algorithm that there is none of. Blocks. Thread-safe.
result<std::string> payload_checksum(const std::filesystem::path& directory, const std::string& name,
                                     const moby::buildkit::v1::frontend::ChecksumRequest& question);

}  // namespace kiln::workers
