// Two more ways to write messages as JSON, beside solver/go_json. Pure.
#pragma once

#include <string>

#include <google/protobuf/message.h>

namespace kiln::solver {

/// go_json() for text that is only hashed: bytes that are no UTF-8 stay what they are, so that
/// different names never become equal. Not valid JSON then.
std::string exact_json(const google::protobuf::Message& message);

/// Protobuf's own JSON: camelCase names, 64-bit integers as strings, enums by name. Always valid UTF-8.
std::string proto_json(const google::protobuf::Message& message);

}  // namespace kiln::solver
