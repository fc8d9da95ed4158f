// LLB on stdin: reading, --no-cache, and which local directories it may ask for. Pure but for protobuf.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "ops.pb.h"

namespace kiln::client {

/// invalid_argument when the bytes are no definition, or an empty one. Source: buildctl build.go read.
result<pb::Definition> parse_definition(std::string_view bytes);
/// Marks every vertex as not to be looked up.
status ignore_cache(pb::Definition& definition);
/// The directories among `locals` that local:// sources name. invalid_argument "local directory <name> not
/// enabled". Source: buildkit client/solve.go prepareSyncedFiles.
result<std::map<std::string, std::string>> used_locals(const pb::Definition& definition,
                                                       const std::map<std::string, std::string>& locals);

}  // namespace kiln::client
