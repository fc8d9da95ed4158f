// Values of fields in messages from outside that no protobuf parser minds. proto3 lets any number of an enum
// pass, and code that compares with the values it knows would take an unknown one for the rest: a network
// mode of tomorrow for the default of today. It lets NUL characters pass in texts, and the kernel would take
// the part before one for a path.
#pragma once

#include "base/result.hpp"

namespace google::protobuf {
class Message;
}

namespace kiln {

/// invalid_argument names the first such field, however deep, by its place: "mounts[2].cacheOpt.sharing:
/// invalid cache sharing opt 9: unknown type", "exec.meta.cwd: a NUL character in a text".
status check_fields(const google::protobuf::Message& message);

}  // namespace kiln
