#include "messages/rpc_status.hpp"

#include "base/utf8.hpp"
#include "rpc_status.pb.h"

namespace kiln {

void to_rpc_status(const error& e, google::rpc::Status& out) {
  out.set_code(static_cast<int>(e.code));
  out.set_message(valid_utf8(e.message));
  out.clear_details();
  for (const auto& detail : e.details) {
    auto* any = out.add_details();
    any->set_type_url(valid_utf8(detail.type_url));
    any->set_value(detail.value);
  }
}

error from_rpc_status(const google::rpc::Status& s) {
  error e;
  bool known = s.code() >= 0 && s.code() <= static_cast<int>(errc::unauthenticated);
  e.code = known ? static_cast<errc>(s.code()) : errc::unknown;
  e.message = s.message();
  e.details.reserve(static_cast<std::size_t>(s.details_size()));
  for (const auto& any : s.details()) e.details.push_back({any.type_url(), any.value()});
  return e;
}

}  // namespace kiln
