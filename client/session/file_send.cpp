#include "client/session/file_send.hpp"

#include <charconv>
#include <filesystem>

#include <sys/stat.h>

#include <fmt/format.h>

#include "client/connect/dial.hpp"
#include "client/session/tree_transfer.hpp"
#include "filesync.pb.h"

namespace kiln::client {
namespace {

class file_send_service : public session_service {
 public:
  explicit file_send_service(std::map<int, export_target> targets) : targets_(std::move(targets)) {
    service_.add_method("/moby.filesync.v1.FileSend/DiffCopy",
                        [this](grpc::ServerContext& c, message_stream& s) { return receive(c, s); });
  }

  grpc::Service& service() override { return service_; }
  std::vector<std::string> methods() const override { return {"/moby.filesync.v1.FileSend/DiffCopy"}; }

 private:
  grpc::Status receive(grpc::ServerContext& context, message_stream& stream) {
    auto text = metadata_value(context, "buildkit-attachable-exporter-id");
    int id = 0;
    std::from_chars(text.data(), text.data() + text.size(), id);
    auto it = targets_.find(id);
    if (it == targets_.end()) return {grpc::StatusCode::UNKNOWN, fmt::format("exporter {} not found", id)};
    auto& target = it->second;
    auto received = target.what == export_target::kind::directory ? receive_directory(context, stream, target)
                                                                  : receive_file(stream, target);
    return received.ok() ? grpc::Status::OK : to_grpc(received.error());
  }

  status receive_directory(grpc::ServerContext& context, message_stream& stream,
                           const export_target& target) {
    if (target.delete_extra && metadata_value(context, "buildkit-exporter-multi-platform") != "1")
      return make_error(
          errc::unknown,
          "local exporter mode=delete requires a BuildKit daemon with multi-platform local export support");
    std::error_code err;
    if (!std::filesystem::exists(target.directory, err)) {
      std::filesystem::create_directories(target.directory, err);
      if (err)
        return make_error(errc::unknown, fmt::format("failed to create synctarget dest dir {}: {}",
                                                     target.directory, err.message()));
      ::chmod(target.directory.c_str(), 0700);
    }
    return receive_tree(stream, target.directory, target.delete_extra);
  }

  status receive_file(message_stream& stream, export_target& target) {
    auto file = std::exchange(target.file, nullptr);
    if (!file) return make_error(errc::already_exists, "target already exists");
    moby::filesync::v1::BytesMessage message;
    std::string bytes;
    while (stream.read(bytes)) {
      if (!message.ParseFromString(bytes))
        return make_error(errc::invalid_argument, "malformed BytesMessage");
      KILN_CHECK(file->write(message.data()));
    }
    return {};
  }

  std::map<int, export_target> targets_;
  raw_service service_;
};

}  // namespace

std::unique_ptr<session_service> make_file_send_service(std::map<int, export_target> targets) {
  return std::make_unique<file_send_service>(std::move(targets));
}

}  // namespace kiln::client
