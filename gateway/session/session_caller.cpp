#include "gateway/session/session_caller.hpp"

#include "base/text.hpp"
#include "gateway/transport/generic_call.hpp"
#include "gateway/peer/peer_requests.hpp"

namespace kiln::gateway {

channel_session_caller::channel_session_caller(session_identity identity,
                                               std::shared_ptr<grpc::Channel> channel)
    : identity_(std::move(identity)), channel_(std::move(channel)) {
  for (const auto& method : identity_.methods) methods_.insert(to_lower(method));
}

bool channel_session_caller::supports(std::string_view method) const {
  return methods_.contains(to_lower(method));
}

error channel_session_caller::gone() const {
  return make_error(errc::unavailable, "session " + identity_.id + " is closed");
}

result<std::string> channel_session_caller::call(std::string_view method, std::string_view request,
                                                 const call_metadata& metadata,
                                                 std::chrono::milliseconds timeout, std::stop_token stop) {
  if (closed_) return gone();
  if (stop.stop_requested()) return make_error(errc::cancelled, "context canceled");
  KILN_CHECK(check_metadata(metadata));
  auto answer = generic_unary(channel_, method, request, metadata, timeout, std::move(stop));
  // The socket closed under the call: say what that means.
  if (!answer.ok() && answer.error().code == errc::unavailable && closed_) return gone();
  return answer;
}

result<std::unique_ptr<message_stream>> channel_session_caller::open(std::string_view method,
                                                                     const call_metadata& metadata,
                                                                     std::stop_token stop) {
  if (closed_) return gone();
  if (stop.stop_requested()) return make_error(errc::cancelled, "context canceled");
  KILN_CHECK(check_metadata(metadata));
  return generic_stream(channel_, method, metadata, std::move(stop));
}

}  // namespace kiln::gateway
