// Codes of errors as buildctl's users see them: in front of the text, unless unknown.
#pragma once

#include <string>

#include "base/result.hpp"

namespace kiln::client {

/// "NotFound", "InvalidArgument", …: gRPC's own names.
std::string code_name(errc code);
/// "NotFound: text"; an error of unknown code as it is. Source: BuildKit util/grpcerrors, grpcStatusError.
error with_code_name(error e);

}  // namespace kiln::client
