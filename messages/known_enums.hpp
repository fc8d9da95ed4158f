// Enum values of messages from outside. proto3 lets any number pass, and code that compares with the values it knows
// would take an unknown one for the rest: a network mode of tomorrow for the default of today.
#pragma once

#include "messages/result.hpp"

namespace google::protobuf {
class Message;
}

namespace kiln {

/// invalid_argument names field and value ("mounts[2].cacheOpt.sharing: invalid cache sharing opt 9: unknown type") of
/// the first enum field, however deep, whose value has no name.
status check_enums(const google::protobuf::Message& message);

}  // namespace kiln
