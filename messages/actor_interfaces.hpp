// The doors between the gateway and the actors behind it, and the type ids of everything actors say.
// Append only: a type's position is its id on the wire between nodes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <caf/all.hpp>

#include "control.pb.h"
#include "gateway.pb.h"
#include "messages/proto_inspect.hpp"
#include "messages/result.hpp"

namespace kiln {

namespace ctl = moby::buildkit::v1;
namespace gw = moby::buildkit::v1::frontend;

using solve_atom = caf::atom_constant<caf::atom("solve")>;
using find_atom = caf::atom_constant<caf::atom("find")>;
using watch_atom = caf::atom_constant<caf::atom("watch")>;
using done_atom = caf::atom_constant<caf::atom("done")>;
using list_atom = caf::atom_constant<caf::atom("list")>;
using cancel_atom = caf::atom_constant<caf::atom("cancel")>;
using collect_atom = caf::atom_constant<caf::atom("collect")>;

/// Gets the progress of a build: everything from its beginning, then as it happens, then the end.
using status_listener = caf::typed_actor<caf::reacts_to<ctl::StatusResponse>,
                                         caf::reacts_to<done_atom>>;

/// Gets build history events until `done` (or for ever).
using history_listener = caf::typed_actor<caf::reacts_to<ctl::BuildHistoryEvent>,
                                          caf::reacts_to<done_atom>>;

/// Gets pruned records, then `done`.
using prune_listener = caf::typed_actor<caf::reacts_to<ctl::UsageRecord>, caf::reacts_to<done_atom>>;

/// One build, as its frontend or gateway client uses it (LLBBridge). Errors are caf::error made by
/// to_caf() (actor_error.hpp) and keep code, text and details.
using build_actor = caf::typed_actor<
    caf::replies_to<gw::PingRequest>::with<gw::PongResponse>,
    caf::replies_to<gw::SolveRequest>::with<gw::SolveResponse>,
    caf::replies_to<gw::ResolveImageConfigRequest>::with<gw::ResolveImageConfigResponse>,
    caf::replies_to<gw::ResolveSourceMetaRequest>::with<gw::ResolveSourceMetaResponse>,
    caf::replies_to<gw::ReadFileRequest>::with<gw::ReadFileResponse>,
    caf::replies_to<gw::ReadDirRequest>::with<gw::ReadDirResponse>,
    caf::replies_to<gw::StatFileRequest>::with<gw::StatFileResponse>,
    caf::replies_to<gw::EvaluateRequest>::with<gw::EvaluateResponse>,
    caf::replies_to<gw::WarnRequest>::with<gw::WarnResponse>,
    caf::replies_to<gw::InputsRequest>::with<gw::InputsResponse>,
    caf::replies_to<gw::ReturnRequest>::with<gw::ReturnResponse>,
    caf::reacts_to<cancel_atom>>;

/// All builds of this node. Solve answers when the build is done; the requester going down, or
/// `cancel` with the ref, cancels it.
using builds_actor = caf::typed_actor<
    caf::replies_to<solve_atom, ctl::SolveRequest>::with<ctl::SolveResponse>,
    /// The build of that ref; waits up to 3 s for it to register. not_found otherwise.
    caf::replies_to<find_atom, std::string>::with<build_actor>,
    /// Subscribes to a running build, or replays a finished one; waits up to 6 s for it to appear.
    caf::replies_to<watch_atom, std::string, status_listener>::with<bool>,
    caf::reacts_to<cancel_atom, std::string>>;

/// The workers of this node (and, once clustered, of others).
using workers_actor = caf::typed_actor<
    caf::replies_to<list_atom, ctl::ListWorkersRequest>::with<ctl::ListWorkersResponse>>;

/// Cache records: usage and pruning.
using cache_manager_actor = caf::typed_actor<
    caf::replies_to<ctl::DiskUsageRequest>::with<ctl::DiskUsageResponse>,
    /// Streams what goes to the listener; answers when all is done.
    caf::replies_to<ctl::PruneRequest, prune_listener>::with<bool>,
    /// A build ended: collect garbage by policy (throttled).
    caf::reacts_to<collect_atom>>;

/// Finished and running builds.
using history_actor = caf::typed_actor<
    caf::replies_to<ctl::BuildHistoryRequest, history_listener>::with<bool>,
    caf::replies_to<ctl::UpdateBuildHistoryRequest>::with<ctl::UpdateBuildHistoryResponse>,
    /// A build began, changed or ended: stores and publishes the record.
    caf::reacts_to<ctl::BuildHistoryEvent>>;

}  // namespace kiln

CAF_BEGIN_TYPE_ID_BLOCK(kiln, caf::first_custom_type_id)
CAF_ADD_TYPE_ID(kiln, (kiln::error))
CAF_ADD_TYPE_ID(kiln, (kiln::ctl::SolveRequest))
CAF_ADD_TYPE_ID(kiln, (kiln::ctl::SolveResponse))
CAF_ADD_TYPE_ID(kiln, (kiln::ctl::StatusResponse))
CAF_ADD_TYPE_ID(kiln, (kiln::ctl::BuildHistoryRequest))
CAF_ADD_TYPE_ID(kiln, (kiln::ctl::BuildHistoryEvent))
CAF_ADD_TYPE_ID(kiln, (kiln::ctl::UpdateBuildHistoryRequest))
CAF_ADD_TYPE_ID(kiln, (kiln::ctl::UpdateBuildHistoryResponse))
CAF_ADD_TYPE_ID(kiln, (kiln::ctl::UsageRecord))
CAF_ADD_TYPE_ID(kiln, (kiln::ctl::DiskUsageRequest))
CAF_ADD_TYPE_ID(kiln, (kiln::ctl::DiskUsageResponse))
CAF_ADD_TYPE_ID(kiln, (kiln::ctl::PruneRequest))
CAF_ADD_TYPE_ID(kiln, (kiln::ctl::ListWorkersRequest))
CAF_ADD_TYPE_ID(kiln, (kiln::ctl::ListWorkersResponse))
CAF_ADD_TYPE_ID(kiln, (kiln::gw::PingRequest))
CAF_ADD_TYPE_ID(kiln, (kiln::gw::PongResponse))
CAF_ADD_TYPE_ID(kiln, (kiln::gw::SolveRequest))
CAF_ADD_TYPE_ID(kiln, (kiln::gw::SolveResponse))
CAF_ADD_TYPE_ID(kiln, (kiln::gw::ResolveImageConfigRequest))
CAF_ADD_TYPE_ID(kiln, (kiln::gw::ResolveImageConfigResponse))
CAF_ADD_TYPE_ID(kiln, (kiln::gw::ResolveSourceMetaRequest))
CAF_ADD_TYPE_ID(kiln, (kiln::gw::ResolveSourceMetaResponse))
CAF_ADD_TYPE_ID(kiln, (kiln::gw::ReadFileRequest))
CAF_ADD_TYPE_ID(kiln, (kiln::gw::ReadFileResponse))
CAF_ADD_TYPE_ID(kiln, (kiln::gw::ReadDirRequest))
CAF_ADD_TYPE_ID(kiln, (kiln::gw::ReadDirResponse))
CAF_ADD_TYPE_ID(kiln, (kiln::gw::StatFileRequest))
CAF_ADD_TYPE_ID(kiln, (kiln::gw::StatFileResponse))
CAF_ADD_TYPE_ID(kiln, (kiln::gw::EvaluateRequest))
CAF_ADD_TYPE_ID(kiln, (kiln::gw::EvaluateResponse))
CAF_ADD_TYPE_ID(kiln, (kiln::gw::WarnRequest))
CAF_ADD_TYPE_ID(kiln, (kiln::gw::WarnResponse))
CAF_ADD_TYPE_ID(kiln, (kiln::gw::InputsRequest))
CAF_ADD_TYPE_ID(kiln, (kiln::gw::InputsResponse))
CAF_ADD_TYPE_ID(kiln, (kiln::gw::ReturnRequest))
CAF_ADD_TYPE_ID(kiln, (kiln::gw::ReturnResponse))
CAF_ADD_TYPE_ID(kiln, (kiln::status_listener))
CAF_ADD_TYPE_ID(kiln, (kiln::history_listener))
CAF_ADD_TYPE_ID(kiln, (kiln::prune_listener))
CAF_ADD_TYPE_ID(kiln, (kiln::build_actor))
CAF_END_TYPE_ID_BLOCK(kiln)
