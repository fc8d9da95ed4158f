// Strings of messages may be any bytes.
//
// Paths, link targets and arguments are bytes that need not be UTF-8, and BuildKit has them in `string`
// fields: its encoder looks into none, in either direction. protobuf's C++ refuses such messages. These are
// the two functions by which generated code asks; ours, linked before libprotobuf's, take everything. What
// others may read as text only (statuses of gRPC, JSON) is made valid where it is written:
// messages/rpc_status, solver/go_json.
#include <google/protobuf/parse_context.h>
#include <google/protobuf/wire_format_lite.h>

namespace google::protobuf::internal {

bool VerifyUTF8(StringPiece, const char*) { return true; }

bool WireFormatLite::VerifyUtf8String(const char*, int, Operation, const char*) { return true; }

}  // namespace google::protobuf::internal
