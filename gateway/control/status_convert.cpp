#include "gateway/control/status_convert.hpp"

#include <algorithm>

#include "base/utf8.hpp"
#include "configs/gateway.hpp"
#include "messages/rpc_status.hpp"
#include "rpc_status.pb.h"

namespace kiln::gateway {

namespace {

/// An error that fits into a client's headers.
error bounded(error e) {
  namespace cfg = configs::gateway;
  if (e.message.size() > cfg::error_text_bytes_max) {
    // The cause is told last.
    constexpr auto half = cfg::error_text_bytes_max / 2;
    e.message = e.message.substr(0, half) + " … " + e.message.substr(e.message.size() - half);
  }
  auto size = [](const error_detail& d) { return d.type_url.size() + d.value.size(); };
  std::size_t all = 0;
  for (const auto& d : e.details) all += size(d);
  while (all > cfg::error_details_bytes_max) {
    auto largest = std::max_element(e.details.begin(), e.details.end(),
                                    [&](const auto& a, const auto& b) { return size(a) < size(b); });
    all -= size(*largest);
    e.details.erase(largest);
  }
  return e;
}

}  // namespace

grpc::Status to_grpc(const error& whole) {
  auto e = bounded(whole);
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
