#include "store/blobs/session_content.hpp"

#include <algorithm>

#include "base/pause.hpp"
#include "configs/remote_cache.hpp"
#include "content.pb.h"

namespace kiln::store {
namespace {

namespace proto = containerd::services::content::v1;

constexpr std::string_view service = "/containerd.services.content.v1.Content/";
constexpr std::chrono::milliseconds session_wait{5'000};

std::string method(const char* name) { return std::string(service) + name; }

class provider final : public blob_provider {
 public:
  explicit provider(std::string store_id) : store_id_(std::move(store_id)) {}
  status fetch(const descriptor& blob, blob_store& into, const job_context& job) override {
    if (into.has(blob.digest)) return {};
    if (job.directory == nullptr) return make_error(errc::failed_precondition, "no active sessions");
    status last = make_error(errc::failed_precondition, "no active sessions");
    for (const auto& id : job.sessions.ids) {
      auto caller = job.directory->find(id, session_wait, job.stop);
      if (!caller.ok()) {
        last = std::move(caller).error();
        continue;
      }
      last = session_content(*std::move(caller), store_id_).fetch(blob, into, job);
      if (last.ok()) return last;
    }
    return last;
  }

 private:
  std::string store_id_;
};

}  // namespace

result<session_content> session_content::open(const job_context& job, std::string store_id) {
  if (job.directory == nullptr || job.sessions.ids.empty())
    return make_error(errc::failed_precondition, "local cache exporter/importer requires session");
  KILN_TRY(auto caller, job.directory->find(job.sessions.ids.front(), session_wait, job.stop));
  return session_content(std::move(caller), std::move(store_id));
}

result<std::int64_t> session_content::size(const digest& d, std::stop_token stop) {
  proto::InfoRequest request;
  request.set_digest(d.str());
  KILN_TRY(std::string answer, caller_->call(method("Info"), request.SerializeAsString(),
                                             {{"buildkit-attachable-store-id", store_id_}},
                                             configs::session_content_timeout, stop));
  proto::InfoResponse info;
  if (!info.ParseFromString(answer) || info.info().size() < 0)
    return make_error(errc::internal, "invalid answer of the client's content store");
  return info.info().size();
}

status session_content::read(const digest& d, std::int64_t offset, std::stop_token stop,
                             const byte_taker& use) {
  proto::ReadContentRequest request;
  request.set_digest(d.str());
  request.set_offset(offset);
  KILN_TRY(auto stream, caller_->open(method("Read"), {{"buildkit-attachable-store-id", store_id_}}, stop));
  if (stream->write(request.SerializeAsString())) stream->writes_done();
  std::string message;
  while (stream->read(message)) {
    proto::ReadContentResponse chunk;
    if (!chunk.ParseFromString(message))
      return make_error(errc::internal, "invalid answer of the client's content store");
    KILN_CHECK(use(chunk.data()));
  }
  return stream->finish();
}

result<std::string> session_content::read_all(const digest& d, std::int64_t limit, std::stop_token stop) {
  std::string out;
  KILN_CHECK(read(d, 0, stop, [&](std::string_view bytes) -> status {
    if (static_cast<std::int64_t>(out.size() + bytes.size()) > limit)
      return make_error(errc::resource_exhausted,
                        "blob " + d.str() + " is too large (more than " + std::to_string(limit) + " bytes)");
    out += bytes;
    return {};
  }));
  if (auto got = sha256(out); got != d)
    return make_error(errc::data_loss, "blob " + d.str() + " of the client has digest " + got.str());
  return out;
}

status session_content::fetch(const descriptor& blob, blob_store& into, const job_context& job) {
  return download_blob(
      blob, into, job, "blob " + blob.digest.str() + " of the client is longer than its descriptor says",
      [&](std::int64_t offset, const byte_taker& take) { return read(blob.digest, offset, job.stop, take); });
}

status session_content::write(const digest& d, std::int64_t size, byte_source& from, const job_context& job) {
  for (auto pause = configs::session_content_first_pause;;
       pause = std::min(pause * 2, configs::session_content_pause)) {
    KILN_TRY(auto stream,
             caller_->open(method("Write"), {{"buildkit-attachable-store-id", store_id_}}, job.stop));
    bool is_locked = false;
    auto outcome = write_once(*stream, d, size, from, job, is_locked);
    if (!outcome.ok() && outcome.error().code == errc::already_exists) return {};
    if (!is_locked) return outcome;
    // Somebody else is writing it: then it is there, or can be written.
    stream.reset();
    pause_for(pause, job.stop);
    KILN_CHECK(job.check());
  }
}

/// `is_locked`: nothing was read of `from`, another writer has the blob.
status session_content::write_once(message_stream& stream, const digest& d, std::int64_t size,
                                   byte_source& from, const job_context& job, bool& is_locked) {
  auto exchange = [&](const proto::WriteContentRequest& request) -> result<proto::WriteContentResponse> {
    proto::WriteContentResponse answer;
    std::string message;
    if (stream.write(request.SerializeAsString()) && stream.read(message) && answer.ParseFromString(message))
      return answer;
    auto verdict = stream.finish();
    if (verdict.ok()) return make_error(errc::unavailable, "the client's content store ended the stream");
    return std::move(verdict).error();
  };
  proto::WriteContentRequest request;
  request.set_action(proto::STAT);
  request.set_ref("kiln-" + d.str());
  request.set_total(size);
  request.set_expected(d.str());
  if (auto answer = exchange(request); !answer.ok()) {
    // Source: containerd plugins/content/local/locks.go.
    is_locked = answer.error().code == errc::unavailable &&
                answer.error().message.find(" locked") != std::string::npos;
    return std::move(answer).error();
  }
  // From the beginning, whatever an earlier attempt left: offset 0 truncates.
  std::string buffer(configs::session_content_chunk, '\0');
  std::int64_t offset = 0;
  request.set_action(proto::WRITE);
  for (;;) {
    KILN_CHECK(job.check());
    KILN_TRY(std::size_t got, from.read(buffer));
    if (got == 0) break;
    request.set_offset(offset);
    request.set_data(buffer.data(), got);
    if (auto answer = exchange(request); !answer.ok()) return std::move(answer).error();
    offset += static_cast<std::int64_t>(got);
  }
  request.clear_data();
  request.set_action(proto::COMMIT);
  request.set_offset(offset);
  if (auto answer = exchange(request); !answer.ok()) return std::move(answer).error();
  stream.writes_done();
  return {};
}

status session_content::push(const descriptor& blob, const blob_store& from, const job_context& job) {
  KILN_TRY(auto source, from.read(blob.digest));
  return write(blob.digest, blob.size, *source, job);
}

status session_content::push_bytes(const digest& d, std::string_view bytes, std::stop_token stop) {
  text_source source{std::string(bytes)};
  job_context job;
  job.stop = std::move(stop);
  return write(d, static_cast<std::int64_t>(bytes.size()), source, job);
}

std::shared_ptr<blob_provider> session_content_provider(std::string store_id) {
  return std::make_shared<provider>(std::move(store_id));
}

}  // namespace kiln::store
