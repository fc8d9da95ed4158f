// What one service offered to the daemon consists of: a gRPC service and the methods the session announces.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/codegen/service_type.h>
#include <grpcpp/impl/codegen/sync_stream.h>

#include "messages/session.hpp"

namespace kiln::client {

class session_service {
 public:
  virtual ~session_service() = default;
  virtual grpc::Service& service() = 0;
  /// "/package.Service/Method" for every method.
  virtual std::vector<std::string> methods() const = 0;
};

using byte_stream = grpc::ServerReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>;

/// A service whose bidirectional methods see serialized messages: what fsutil's core works on.
class raw_service : public grpc::Service {
 public:
  using handler = std::function<grpc::Status(grpc::ServerContext&, message_stream&)>;
  /// `method` must outlive the service (gRPC keeps the pointer).
  void add_method(const char* method, handler h);
};

/// All values of a metadata key, in order; URL-escaped ones decoded when "<key>-encoded" says so.
/// Source: buildkit session/filesync decodeOpts.
std::vector<std::string> metadata_values(const grpc::ServerContext& context, const std::string& key);
/// The first value or empty.
std::string metadata_value(const grpc::ServerContext& context, const std::string& key);

}  // namespace kiln::client
