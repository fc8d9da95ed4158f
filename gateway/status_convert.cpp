#include "gateway/status_convert.hpp"

#include "messages/rpc_status.hpp"
#include "rpc_status.pb.h"

namespace kiln::gateway {

grpc::Status to_grpc(const error& e) {
  if (e.code == errc::ok) return {grpc::StatusCode::UNKNOWN, e.message};
  auto code = static_cast<grpc::StatusCode>(e.code);
  if (e.details.empty()) return {code, valid_utf8(e.message)};
  google::rpc::Status proto;
  to_rpc_status(e, proto);
  return {code, proto.message(), proto.SerializeAsString()};
}

error from_grpc(const grpc::Status& s) {
  error e;
  google::rpc::Status proto;
  if (!s.error_details().empty() && proto.ParseFromString(s.error_details())) e = from_rpc_status(proto);
  e.code = static_cast<errc>(s.error_code());
  e.message = s.error_message();
  return e;
}

}  // namespace kiln::gateway
