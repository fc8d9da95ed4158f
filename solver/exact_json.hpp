// Two more ways to write messages as JSON, beside solver/go_json. Pure.
#pragma once

#include <string>
#include <string_view>

#include <google/protobuf/message.h>

namespace kiln::solver {

/// go_json() and go_json_string() for text that is only hashed: bytes that are no UTF-8 stay what they are, so that
/// different names never become equal. Not valid JSON then.
std::string exact_json(const google::protobuf::Message& message);
std::string exact_json_string(std::string_view text);

/// Protobuf's own JSON: camelCase names, 64-bit integers as strings, enums by name. Always valid UTF-8.
std::string proto_json(const google::protobuf::Message& message);

}  // namespace kiln::solver
