// What other nodes may ask of this one: to describe refs, to bring their blobs into the content store, to
// pass calls on to sessions connected here. gRPC's threads only hand over.
#pragma once

#include "base/quota.hpp"
#include "base/thread_pool.hpp"
#include "configs/peers.hpp"
#include "gateway/peer/peer_requests.hpp"
#include "kiln_peer.grpc.pb.h"
#include "messages/session.hpp"
#include "messages/session_grants.hpp"
#include "store/ref_store.hpp"

namespace kiln::gateway {

namespace peer_api = kiln::v1;

class peer_service final : public peer_api::Peer::CallbackService {
 public:
  /// All must outlive the server. `describing` may be busy for as long as it takes to pack a layer. `access`
  /// says which nodes may ask what of which session.
  peer_service(store::ref_store& refs, session_directory& sessions, const session_access& access,
               thread_pool& describing, thread_pool& calls)
      : refs_(refs), sessions_(sessions), access_(access), describing_(describing), calls_(calls) {}

  using context = grpc::CallbackServerContext;
  grpc::ServerWriteReactor<peer_api::DescribeRefResponse>* DescribeRef(
      context*, const peer_api::DescribeRefRequest*) override;
  grpc::ServerWriteReactor<peer_api::ProvideBlobResponse>* ProvideBlob(
      context*, const peer_api::ProvideBlobRequest*) override;
  grpc::ServerUnaryReactor* SessionInfo(context*, const peer_api::SessionInfoRequest*,
                                        peer_api::SessionInfoResponse*) override;
  grpc::ServerBidiReactor<peer_api::SessionFrame, peer_api::SessionFrame>* SessionCall(context*) override;

 private:
  store::ref_store& refs_;
  session_directory& sessions_;
  const session_access& access_;
  thread_pool& describing_;
  thread_pool& calls_;
  quota<std::string> session_threads_{configs::peers::session_threads_of_node_max};
  quota<std::string> describe_calls_{configs::peers::describe_calls_of_node_max};
};

}  // namespace kiln::gateway
