// Sending export output to the client: one file as a stream of chunks.
// Source: session/filesync/filesync.go (CopyFileWriter).
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "exporters/exporter.hpp"
#include "store/files/stream.hpp"

namespace kiln::exporters {

/// The session of the client that asked for the export; failed_precondition without one.
result<std::shared_ptr<session_caller>> exporting_client(const export_input& input, const job_context& job);

/// The metadata of a FileSend stream: the export's index and its response.
call_metadata file_send_metadata(int id, const std::map<std::string, std::string>& response);

/// A file at the client. finish() waits until the client has it. The client's refusal comes as it said it;
/// already_exists "target already exists" means that it wants no file.
class client_file : public store::byte_sink {
 public:
  static result<std::unique_ptr<client_file>> open(session_caller& client, int id,
                                                   const std::map<std::string, std::string>& response,
                                                   const job_context& job);
  status write(std::string_view bytes) override;
  status finish() override;
  std::int64_t sent() const { return sent_; }

 private:
  explicit client_file(std::unique_ptr<message_stream> s) : stream_(std::move(s)) {}
  status send(std::string_view bytes);
  status verdict();

  std::unique_ptr<message_stream> stream_;
  std::string buffer_;
  std::int64_t sent_ = 0;
};

}  // namespace kiln::exporters
