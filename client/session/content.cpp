#include "client/session/content.hpp"

#include <fmt/format.h>

#include "client/connect/dial.hpp"
#include "content.grpc.pb.h"

namespace kiln::client {
namespace {

namespace proto = containerd::services::content::v1;

constexpr std::size_t read_chunk_bytes = 1 << 20;
constexpr int list_batch = 100;

void set_time(google::protobuf::Timestamp* t, std::int64_t ns) {
  t->set_seconds(ns / 1'000'000'000);
  t->set_nanos(static_cast<int>(ns % 1'000'000'000));
}

void fill(proto::Info* out, const blob_facts& facts) {
  out->set_digest(facts.digest.str());
  out->set_size(facts.size);
  set_time(out->mutable_created_at(), facts.modified_ns);
  set_time(out->mutable_updated_at(), facts.modified_ns);
}

void fill(proto::Status* out, const ingest_facts& facts) {
  out->set_ref(facts.ref);
  out->set_offset(facts.offset);
  out->set_total(facts.total);
  out->set_expected(facts.expected);
  set_time(out->mutable_started_at(), facts.started_ns);
  set_time(out->mutable_updated_at(), facts.updated_ns);
}

class content_service : public session_service, public proto::Content::Service {
 public:
  explicit content_service(std::map<std::string, std::shared_ptr<blob_directory>> stores)
      : stores_(std::move(stores)) {}

  grpc::Service& service() override { return *this; }
  std::vector<std::string> methods() const override {
    std::vector<std::string> out;
    for (const char* m :
         {"Info", "Update", "List", "Delete", "Read", "Status", "ListStatuses", "Write", "Abort"})
      out.push_back(fmt::format("/containerd.services.content.v1.Content/{}", m));
    return out;
  }

  grpc::Status Info(grpc::ServerContext* c, const proto::InfoRequest* q, proto::InfoResponse* a) override {
    return with_store(*c, [&](blob_directory& store) -> status {
      KILN_TRY(auto facts, find(store, q->digest()));
      fill(a->mutable_info(), facts);
      return {};
    });
  }

  // Labels are not kept: what they would protect from is a collector these directories do not have.
  grpc::Status Update(grpc::ServerContext* c, const proto::UpdateRequest* q,
                      proto::UpdateResponse* a) override {
    return with_store(*c, [&](blob_directory& store) -> status {
      KILN_TRY(auto facts, find(store, q->info().digest()));
      fill(a->mutable_info(), facts);
      *a->mutable_info()->mutable_labels() = q->info().labels();
      return {};
    });
  }

  grpc::Status List(grpc::ServerContext* c, const proto::ListContentRequest*,
                    grpc::ServerWriter<proto::ListContentResponse>* out) override {
    return with_store(*c, [&](blob_directory& store) -> status {
      proto::ListContentResponse batch;
      for (const auto& facts : store.list()) {
        fill(batch.add_info(), facts);
        if (batch.info_size() == list_batch) {
          out->Write(batch);
          batch.Clear();
        }
      }
      if (batch.info_size() != 0) out->Write(batch);
      return {};
    });
  }

  grpc::Status Delete(grpc::ServerContext* c, const proto::DeleteContentRequest* q,
                      google::protobuf::Empty*) override {
    return with_store(*c, [&](blob_directory& store) -> status {
      KILN_TRY(auto d, digest::parse(q->digest()));
      return store.remove(d);
    });
  }

  grpc::Status Read(grpc::ServerContext* c, const proto::ReadContentRequest* q,
                    grpc::ServerWriter<proto::ReadContentResponse>* out) override {
    return with_store(*c, [&](blob_directory& store) { return read(store, *q, *out); });
  }

  grpc::Status Status(grpc::ServerContext* c, const proto::StatusRequest* q,
                      proto::StatusResponse* a) override {
    return with_store(*c, [&](blob_directory& store) -> status {
      KILN_TRY(auto facts, store.status_of(q->ref()));
      fill(a->mutable_status(), facts);
      return {};
    });
  }

  grpc::Status ListStatuses(grpc::ServerContext* c, const proto::ListStatusesRequest*,
                            proto::ListStatusesResponse* a) override {
    return with_store(*c, [&](blob_directory& store) -> status {
      for (const auto& facts : store.ingests()) fill(a->add_statuses(), facts);
      return {};
    });
  }

  grpc::Status Write(
      grpc::ServerContext* c,
      grpc::ServerReaderWriter<proto::WriteContentResponse, proto::WriteContentRequest>* stream) override {
    return with_store(*c, [&](blob_directory& store) { return write(store, *stream); });
  }

  grpc::Status Abort(grpc::ServerContext* c, const proto::AbortRequest* q,
                     google::protobuf::Empty*) override {
    return with_store(*c, [&](blob_directory& store) { return store.abort(q->ref()); });
  }

 private:
  using write_stream = grpc::ServerReaderWriter<proto::WriteContentResponse, proto::WriteContentRequest>;

  template <class Use>
  grpc::Status with_store(const grpc::ServerContext& context, Use use) {
    auto ids = metadata_values(context, "buildkit-attachable-store-id");
    if (ids.empty())
      return {grpc::StatusCode::INVALID_ARGUMENT,
              "request lacks metadata \"buildkit-attachable-store-id\": invalid argument"};
    auto it = stores_.find(ids.front());
    if (it == stores_.end())
      return {grpc::StatusCode::NOT_FOUND, fmt::format("unknown store {}: not found", ids.front())};
    auto done = use(*it->second);
    return done.ok() ? grpc::Status::OK : to_grpc(done.error());
  }

  static result<blob_facts> find(blob_directory& store, const std::string& text) {
    KILN_TRY(auto d, digest::parse(text));
    return store.info(d);
  }

  static status read(blob_directory& store, const proto::ReadContentRequest& q,
                     grpc::ServerWriter<proto::ReadContentResponse>& out) {
    KILN_TRY(auto facts, find(store, q.digest()));
    if (q.offset() < 0 || q.offset() > facts.size)
      return make_error(errc::out_of_range, fmt::format("read past object length {} bytes", facts.size));
    std::int64_t end = q.size() > 0 ? q.offset() + q.size() : facts.size;
    if (end > facts.size)
      return make_error(errc::out_of_range, fmt::format("read past object length {} bytes", facts.size));
    KILN_TRY(auto fd, store.open(facts.digest));
    proto::ReadContentResponse chunk;
    std::string buffer(read_chunk_bytes, '\0');
    for (std::int64_t at = q.offset(); at < end;) {
      auto want = std::min<std::int64_t>(end - at, static_cast<std::int64_t>(buffer.size()));
      auto n = ::pread(fd.get(), buffer.data(), static_cast<std::size_t>(want), at);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return errno_error(errno, facts.digest.str());
      if (n == 0) return make_error(errc::data_loss, facts.digest.str() + ": shorter than it was");
      chunk.set_offset(at);
      chunk.set_data(buffer.data(), static_cast<std::size_t>(n));
      if (!out.Write(chunk)) return make_error(errc::cancelled, "the reader went away");
      at += n;
    }
    return {};
  }

  // Source: containerd services/content/contentserver Write.
  static status write(blob_directory& store, write_stream& stream) {
    std::unique_ptr<blob_directory::ingest> ingest;
    proto::WriteContentRequest q;
    while (stream.Read(&q)) {
      if (!ingest) {
        KILN_TRY(ingest, store.begin(q.ref(), q.total(), q.expected()));
      } else {
        ingest->expect(q.total(), q.expected());
      }
      proto::WriteContentResponse a;
      a.set_action(q.action());
      if (q.action() == proto::WRITE || (q.action() == proto::COMMIT && !q.data().empty()))
        KILN_CHECK(ingest->write(q.offset(), q.data()));
      auto facts = ingest->facts();
      if (q.action() == proto::COMMIT) {
        KILN_TRY(auto d, ingest->commit());
        a.set_digest(d.str());
      }
      a.set_offset(facts.offset);
      a.set_total(facts.total);
      set_time(a.mutable_started_at(), facts.started_ns);
      set_time(a.mutable_updated_at(), facts.updated_ns);
      if (!stream.Write(a)) return make_error(errc::cancelled, "the writer went away");
      if (q.action() == proto::COMMIT) return {};
    }
    return {};
  }

  std::map<std::string, std::shared_ptr<blob_directory>> stores_;
};

}  // namespace

std::unique_ptr<session_service> make_content_service(
    std::map<std::string, std::shared_ptr<blob_directory>> stores) {
  return std::make_unique<content_service>(std::move(stores));
}

}  // namespace kiln::client
