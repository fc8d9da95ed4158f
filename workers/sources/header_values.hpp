// Lists of texts as gRPC headers carry them to a client. Pure. Source: wire.md section 4, session/filesync
// encodeOpts.
#pragma once

#include <string>
#include <vector>

#include "messages/session.hpp"

namespace kiln::workers {

/// Adds every value under the key; when one has a non-ASCII character all are URL query-escaped and
/// "<key>-encoded: 1" says so.
void add_header(call_metadata& metadata, const std::string& key, const std::vector<std::string>& values);

}  // namespace kiln::workers
