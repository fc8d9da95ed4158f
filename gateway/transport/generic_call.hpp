// Calls by method name with serialized messages over a gRPC channel, for threads that may block: the unary
// call and the stream behind session_caller. Callbacks run on gRPC's threads and never block.
#pragma once

#include <grpcpp/channel.h>

#include <functional>
#include <memory>

#include "messages/session.hpp"

namespace kiln::gateway {

result<std::string> generic_unary(const std::shared_ptr<grpc::Channel>& channel, std::string_view method,
                                  std::string_view request, const call_metadata& metadata,
                                  std::chrono::milliseconds timeout, std::stop_token stop);

/// The same without blocking; `answer` is called exactly once, on one of gRPC's threads.
void generic_unary_async(const std::shared_ptr<grpc::Channel>& channel, std::string_view method,
                         std::string_view request, std::chrono::milliseconds timeout,
                         std::function<void(result<std::string>)> answer);

std::unique_ptr<message_stream> generic_stream(const std::shared_ptr<grpc::Channel>& channel,
                                               std::string_view method, const call_metadata& metadata,
                                               std::stop_token stop);

}  // namespace kiln::gateway
