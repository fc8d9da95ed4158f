#include "exporters/file_send.hpp"

#include <algorithm>

#include "configs/exporters.hpp"
#include "content.pb.h"
#include "filesync.pb.h"

namespace kiln::exporters {

namespace content = containerd::services::content::v1;

result<std::shared_ptr<session_caller>> exporting_client(const export_input& input, const job_context& job) {
  if (job.directory == nullptr || input.session_id.empty())
    return make_error(errc::failed_precondition, "no active session for the export");
  return job.directory->find(input.session_id, configs::export_session_wait, job.stop);
}

call_metadata file_send_metadata(int id, const std::map<std::string, std::string>& response) {
  call_metadata out{{"buildkit-attachable-exporter-id", std::to_string(id)}};
  for (const auto& [k, v] : response) {
    bool printable = std::all_of(v.begin(), v.end(), [](unsigned char c) { return c >= 0x20 && c < 0x7f; });
    if (printable) out.emplace_back("exporter-md-" + k, v);
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

result<bool> client_content::has(const digest& d, const job_context& job) {
  content::InfoRequest req;
  req.set_digest(d.str());
  auto answer = client_.call("/containerd.services.content.v1.Content/Info", req.SerializeAsString(),
                             metadata(), configs::export_call_timeout, job.stop);
  if (answer.ok()) return true;
  if (answer.error().code == errc::not_found) return false;
  return std::move(answer).error();
}

status client_content::put(const descriptor& d, store::byte_source& source,
                           const std::map<std::string, std::string>& labels, const job_context& job) {
  KILN_TRY(bool there, has(d.digest, job));
  if (there) return {};
  KILN_TRY(auto stream, client_.open("/containerd.services.content.v1.Content/Write", metadata(), job.stop));
  content::WriteContentRequest req;
  content::WriteContentResponse answer;
  std::string bytes;
  // Each request is answered before the next.
  auto exchange = [&]() -> status {
    bool ok = stream->write(req.SerializeAsString()) && stream->read(bytes);
    if (ok && answer.ParseFromString(bytes)) return {};
    auto s = stream->finish();
    if (!s.ok()) return s;
    return make_error(errc::unavailable,
                      "the client's content store ended the transfer of " + d.digest.str());
  };
  std::string name = "export-" + d.digest.str();
  req.set_action(content::STAT);
  req.set_ref(name);
  req.set_total(d.size);
  req.set_expected(d.digest.str());
  if (auto s = exchange(); !s.ok()) {
    if (s.error().code == errc::already_exists) return {};
    return s;
  }
  std::int64_t offset = answer.offset();
  std::vector<char> buffer(1 << 20);
  // What the client kept of an interrupted transfer is skipped.
  for (std::int64_t skip = offset; skip > 0;) {
    KILN_TRY(std::size_t n, source.read(std::span(buffer).first(
                                static_cast<std::size_t>(std::min<std::int64_t>(skip, buffer.size())))));
    if (n == 0)
      return make_error(errc::data_loss, "the client's content store is ahead of blob " + d.digest.str());
    skip -= static_cast<std::int64_t>(n);
  }
  for (;;) {
    KILN_CHECK(job.check());
    KILN_TRY(std::size_t n, source.read(buffer));
    if (n == 0) break;
    req.set_action(content::WRITE);
    req.set_offset(offset);
    req.set_data(buffer.data(), n);
    KILN_CHECK(exchange());
    offset += static_cast<std::int64_t>(n);
  }
  req.clear_data();
  req.set_action(content::COMMIT);
  req.set_offset(offset);
  req.set_total(d.size);
  for (const auto& [k, v] : labels) (*req.mutable_labels())[k] = v;
  if (auto s = exchange(); !s.ok()) {
    if (s.error().code == errc::already_exists) return {};
    return s;
  }
  stream->writes_done();
  while (stream->read(bytes)) {
  }
  auto s = stream->finish();
  if (!s.ok() && s.error().code == errc::already_exists) return {};
  return s;
}

}  // namespace kiln::exporters
