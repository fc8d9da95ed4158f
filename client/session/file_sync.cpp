#include "client/session/file_sync.hpp"

#include <fmt/format.h>

#include "client/connect/dial.hpp"
#include "client/session/tree_transfer.hpp"

namespace kiln::client {
namespace {

class file_sync_service : public session_service {
 public:
  explicit file_sync_service(std::map<std::string, std::string> directories)
      : directories_(std::move(directories)) {
    service_.add_method("/moby.filesync.v1.FileSync/DiffCopy",
                        [this](grpc::ServerContext& c, message_stream& s) { return send(c, s); });
  }

  grpc::Service& service() override { return service_; }
  std::vector<std::string> methods() const override { return {"/moby.filesync.v1.FileSync/DiffCopy"}; }

 private:
  grpc::Status send(grpc::ServerContext& context, message_stream& stream) {
    auto name = metadata_value(context, "dir-name");
    auto it = directories_.find(name);
    if (it == directories_.end())
      return {grpc::StatusCode::NOT_FOUND, fmt::format("no access allowed to dir \"{}\"", name)};
    auto sent = send_tree(stream, it->second,
                          {.include = metadata_values(context, "include-patterns"),
                           .exclude = metadata_values(context, "exclude-patterns"),
                           .follow = metadata_values(context, "followpaths")});
    return sent.ok() ? grpc::Status::OK : to_grpc(sent.error());
  }

  std::map<std::string, std::string> directories_;
  raw_service service_;
};

}  // namespace

std::unique_ptr<session_service> make_file_sync_service(std::map<std::string, std::string> directories) {
  return std::make_unique<file_sync_service>(std::move(directories));
}

}  // namespace kiln::client
