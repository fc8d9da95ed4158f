// What other nodes may ask of this one: to describe refs, to bring their blobs into the content store, to
// pass calls on to sessions connected here. gRPC's threads only hand over.
#pragma once

#include "gateway/blocking_pool.hpp"
#include "gateway/elastic_pool.hpp"
#include "kiln_peer.grpc.pb.h"
#include "messages/session.hpp"
#include "store/ref_store.hpp"

namespace kiln::gateway {

namespace peer_api = kiln::v1;

class peer_service final : public peer_api::Peer::CallbackService {
 public:
  /// All must outlive the server. `describing` may be busy for as long as it takes to pack a layer.
  peer_service(store::ref_store& refs, session_directory& sessions, blocking_pool& describing,
               elastic_pool& calls)
      : refs_(refs), sessions_(sessions), describing_(describing), calls_(calls) {}

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
  blocking_pool& describing_;
  elastic_pool& calls_;
};

// Between what travels and what the store knows. The second refuses what no honest peer would send.
peer_api::RefLayer to_proto(const store::shipped_layer& layer);
result<store::shipped_layer> from_proto(const peer_api::RefLayer& layer);

}  // namespace kiln::gateway
