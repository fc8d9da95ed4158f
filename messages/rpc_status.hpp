// kiln::error to google.rpc.Status and back: the form errors have inside messages and in the header
// `grpc-status-details-bin`. Knows nothing of gRPC.
#pragma once

#include <string>
#include <string_view>

#include "messages/result.hpp"

namespace google::rpc {
class Status;
}

namespace kiln {

/// The text with every byte that is not valid UTF-8 replaced by U+FFFD; Go clients refuse anything else
/// in a string field.
std::string valid_utf8(std::string_view text);
/// Whether the text is valid UTF-8 as it stands.
bool is_valid_utf8(std::string_view text);

/// Details become Any{type_url, JSON text}. Source: wire.md section 12.
void to_rpc_status(const error& e, google::rpc::Status& out);
/// Unknown codes become `unknown`; details of types we do not know are kept as they are.
error from_rpc_status(const google::rpc::Status& s);

}  // namespace kiln
