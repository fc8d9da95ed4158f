// JSON text as Go's encoding/json writes it, for bytes that are compared or hashed elsewhere. Pure.
#pragma once

#include <string>
#include <string_view>

#include <google/protobuf/message.h>

#include "messages/json_text.hpp"

namespace kiln::frontends {

/// The document as Go writes it: `<`, `>`, `&` and U+2028/9 escaped, invalid UTF-8 replaced.
/// indent -1 is compact, otherwise that many spaces (json.MarshalIndent with an empty prefix).
std::string go_json(const nlohmann::ordered_json& document, int indent = -1);

/// A protobuf message in Go's plain struct encoding: proto field names, zero values omitted, enums and 64-bit
/// integers as numbers, bytes in base64, map keys sorted. Source: wire.md sections 8 and 12.
nlohmann::ordered_json go_struct(const google::protobuf::Message& message);

/// Standard base64 with padding.
std::string base64(std::string_view bytes);

}  // namespace kiln::frontends
