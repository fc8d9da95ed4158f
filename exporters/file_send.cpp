#include "exporters/file_send.hpp"

#include <algorithm>

#include "base/text.hpp"
#include "configs/exporters.hpp"
#include "filesync.pb.h"

namespace kiln::exporters {

result<std::shared_ptr<session_caller>> exporting_client(const export_input& input, const job_context& job) {
  if (job.directory == nullptr || input.session_id.empty())
    return make_error(errc::failed_precondition, "no active session for the export");
  return job.directory->find(input.session_id, configs::export_session_wait, job.stop);
}

call_metadata file_send_metadata(int id, const std::map<std::string, std::string>& response) {
  call_metadata out{{"buildkit-attachable-exporter-id", std::to_string(id)}};
  for (const auto& [k, v] : response) {
    // Frontends name some of them; what no header can carry stays out.
    auto key = "exporter-md-" + k;
    key = to_lower(key);
    bool legal = std::all_of(key.begin(), key.end(), [](unsigned char c) {
      return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
    });
    bool printable = std::all_of(v.begin(), v.end(), [](unsigned char c) { return c >= 0x20 && c < 0x7f; });
    if (legal && printable) out.emplace_back(std::move(key), v);
  }
  return out;
}

result<std::unique_ptr<client_file>> client_file::open(session_caller& client, int id,
                                                       const std::map<std::string, std::string>& response,
                                                       const job_context& job) {
  constexpr std::string_view method = "/moby.filesync.v1.FileSend/DiffCopy";
  if (!client.supports(method))
    return make_error(errc::unimplemented, "method " + std::string(method) + " not supported by the client");
  KILN_TRY(auto stream, client.open(method, file_send_metadata(id, response), job.stop));
  return std::unique_ptr<client_file>(new client_file(std::move(stream)));
}

status client_file::write(std::string_view bytes) {
  while (!bytes.empty()) {
    if (buffer_.empty() && bytes.size() >= configs::export_message_size) {
      KILN_CHECK(send(bytes.substr(0, configs::export_message_size)));
      bytes.remove_prefix(configs::export_message_size);
      continue;
    }
    std::size_t n = std::min(bytes.size(), configs::export_message_size - buffer_.size());
    buffer_ += bytes.substr(0, n);
    bytes.remove_prefix(n);
    if (buffer_.size() < configs::export_message_size) break;
    KILN_CHECK(send(buffer_));
    buffer_.clear();
  }
  return {};
}

status client_file::send(std::string_view bytes) {
  moby::filesync::v1::BytesMessage message;
  message.set_data(bytes.data(), bytes.size());
  if (stream_->write(message.SerializeAsString())) {
    sent_ += static_cast<std::int64_t>(bytes.size());
    return {};
  }
  return verdict();
}

/// Why the client ended the stream before we did.
status client_file::verdict() {
  std::string ignored;
  while (stream_->read(ignored)) {
  }
  auto s = stream_->finish();
  if (!s.ok()) return s;
  return make_error(errc::unavailable, "the client stopped reading the export");
}

status client_file::finish() {
  if (!buffer_.empty()) {
    KILN_CHECK(send(buffer_));
    buffer_.clear();
  }
  stream_->writes_done();
  std::string ignored;
  while (stream_->read(ignored)) {
  }
  return stream_->finish();
}

}  // namespace kiln::exporters
