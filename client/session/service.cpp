#include "client/session/service.hpp"

#include <grpcpp/impl/codegen/method_handler.h>
#include <grpcpp/impl/codegen/rpc_service_method.h>

#include "base/numbers.hpp"
#include "base/url.hpp"

namespace kiln::client {
namespace {

// The server's end of a stream as the neutral interface. The server ends its side by returning from the
// handler.
class server_message_stream : public message_stream {
 public:
  explicit server_message_stream(byte_stream& stream) : stream_(stream) {}

  bool write(std::string_view message) override {
    grpc::Slice slice(message.data(), message.size());
    return stream_.Write(grpc::ByteBuffer(&slice, 1));
  }
  void writes_done() override {}
  bool read(std::string& message) override {
    grpc::ByteBuffer buffer;
    if (!stream_.Read(&buffer)) return false;
    message.clear();
    grpc::Slice single;
    if (buffer.TrySingleSlice(&single).ok()) {
      message.assign(reinterpret_cast<const char*>(single.begin()), single.size());
      return true;
    }
    std::vector<grpc::Slice> slices;
    if (!buffer.Dump(&slices).ok()) return false;
    message.reserve(buffer.Length());
    for (const auto& s : slices) message.append(reinterpret_cast<const char*>(s.begin()), s.size());
    return true;
  }
  status finish() override { return {}; }

 private:
  byte_stream& stream_;
};

}  // namespace

void raw_service::add_method(const char* method, handler h) {
  AddMethod(new grpc::internal::RpcServiceMethod(
      method, grpc::internal::RpcMethod::BIDI_STREAMING,
      new grpc::internal::BidiStreamingHandler<raw_service, grpc::ByteBuffer, grpc::ByteBuffer>(
          [h = std::move(h)](raw_service*, grpc::ServerContext* context, byte_stream* stream) {
            server_message_stream messages(*stream);
            return h(*context, messages);
          },
          this)));
}

std::vector<std::string> metadata_values(const grpc::ServerContext& context, const std::string& key) {
  const auto& metadata = context.client_metadata();
  auto text = [](const grpc::string_ref& s) { return std::string(s.data(), s.size()); };
  bool encoded = false;
  if (auto it = metadata.find(key + "-encoded"); it != metadata.end())
    encoded = parse_bool(text(it->second)).value_or(false);
  std::vector<std::string> out;
  auto [first, last] = metadata.equal_range(key);
  for (auto it = first; it != last; ++it)
    out.push_back(encoded ? url_unescape(text(it->second), true) : text(it->second));
  return out;
}

std::string metadata_value(const grpc::ServerContext& context, const std::string& key) {
  auto values = metadata_values(context, key);
  return values.empty() ? std::string() : values.front();
}

}  // namespace kiln::client
