// What other nodes ask, looked at before anything is done about it: the shape, and whether they may. Pure.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.hpp"
#include "kiln_peer.pb.h"
#include "messages/session.hpp"
#include "messages/session_grants.hpp"
#include "store/ref_store.hpp"

namespace kiln::gateway {

/// What gRPC takes as headers of a call; on anything else it ends the process. internal, naming the key, as
/// grpc-go says it. Source: grpc-go internal/metadata, Validate; gRPC core/lib/surface/validate_metadata.cc.
status check_metadata(const call_metadata& metadata);

/// Every one refuses with invalid_argument what no honest node sends.
result<std::string> ref_asked_for(const kiln::v1::DescribeRefRequest& request);
struct wanted_blob {
  std::string ref;
  kiln::digest blob;
};
result<wanted_blob> blob_asked_for(const kiln::v1::ProvideBlobRequest& request);

struct session_question {
  std::string session;
  std::chrono::milliseconds wait{0};
};
/// Whom other nodes are: the names their certificate is for. not_found for sessions they have no business
/// with.
result<session_question> session_asked_for(const kiln::v1::SessionInfoRequest& request,
                                           const std::vector<std::string>& nodes,
                                           const session_access& access);

struct session_call {
  std::string session, method;
  call_metadata metadata;
  bool unary = false;
  std::string request;
  std::chrono::milliseconds timeout{0};
};
/// The first frame of a call; permission_denied when no step there needs it.
result<session_call> call_asked_for(kiln::v1::SessionFrame first, const std::vector<std::string>& nodes,
                                    const session_access& access);

// Between what travels and what the store knows. The second refuses what no honest peer would send.
kiln::v1::RefLayer to_proto(const store::shipped_layer& layer);
result<store::shipped_layer> from_proto(const kiln::v1::RefLayer& layer);

}  // namespace kiln::gateway
