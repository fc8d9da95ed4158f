// Protobuf ops as Go's encoding/json writes their structs: the text cache keys are digests of.
// Pure. Knows nothing of caching. Source: wire.md section 8; solver/pb/json.go for the three special
// messages.
#pragma once

#include <string>
#include <string_view>

#include <google/protobuf/message.h>

namespace kiln::solver {

/// Fields in declaration order under their .proto names, zero values left out, enums and integers as
/// numbers, bytes in base64, maps sorted by key. Op, FileAction and UserOpt have their own shapes.
std::string go_json(const google::protobuf::Message& message);

/// A quoted base64 string, as Go writes []byte.
std::string go_json_bytes(std::string_view bytes);

}  // namespace kiln::solver
