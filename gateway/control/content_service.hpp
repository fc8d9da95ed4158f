// containerd's Content service over the blob store, read-only: how clients fetch logs, traces and
// attestations, and how nodes fetch blobs from each other. Source: containerd contentserver, BuildKit
// roContentStore.
#pragma once

#include "base/thread_pool.hpp"
#include "content.grpc.pb.h"
#include "store/blobs/blob_store.hpp"

namespace kiln::gateway {

namespace content_api = containerd::services::content::v1;

class content_service final : public content_api::Content::CallbackService {
 public:
  /// Both must outlive the server.
  content_service(store::blob_store& blobs, thread_pool& pool) : blobs_(blobs), pool_(pool) {}

  using context = grpc::CallbackServerContext;
  template <class Response>
  using writer = grpc::ServerWriteReactor<Response>;

  grpc::ServerUnaryReactor* Info(context*, const content_api::InfoRequest*,
                                 content_api::InfoResponse*) override;
  writer<content_api::ReadContentResponse>* Read(context*, const content_api::ReadContentRequest*) override;
  writer<content_api::ListContentResponse>* List(context*, const content_api::ListContentRequest*) override;
  /// Nothing is ever being written here.
  grpc::ServerUnaryReactor* ListStatuses(context*, const content_api::ListStatusesRequest*,
                                         content_api::ListStatusesResponse*) override;
  grpc::ServerUnaryReactor* Status(context*, const content_api::StatusRequest*,
                                   content_api::StatusResponse*) override;
  // Refused.
  grpc::ServerUnaryReactor* Update(context*, const content_api::UpdateRequest*,
                                   content_api::UpdateResponse*) override;
  grpc::ServerUnaryReactor* Delete(context*, const content_api::DeleteContentRequest*,
                                   google::protobuf::Empty*) override;
  grpc::ServerUnaryReactor* Abort(context*, const content_api::AbortRequest*,
                                  google::protobuf::Empty*) override;
  grpc::ServerBidiReactor<content_api::WriteContentRequest, content_api::WriteContentResponse>* Write(
      context*) override;

 private:
  store::blob_store& blobs_;
  thread_pool& pool_;
};

}  // namespace kiln::gateway
