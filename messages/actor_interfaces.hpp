// What the actors of a node may be asked, by the gateway and by each other, and the type ids of everything
// they say. An interface is listed here and nowhere else: who passes messages on, or leaves most of them to
// others, names only those it treats in its own way (actors/handle_rest.hpp). Containers are in
// actor_containers.hpp, other nodes in actor_cluster.hpp.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include <caf/all.hpp>

#include "base/result.hpp"
#include "control.pb.h"
#include "gateway.pb.h"
#include "messages/cache_types.hpp"
#include "messages/cluster_types.hpp"
#include "messages/proto_inspect.hpp"
#include "messages/prune_rule.hpp"
#include "messages/solve_types.hpp"
#include "worker.pb.h"

namespace kiln {

namespace ctl = moby::buildkit::v1;
namespace gw = moby::buildkit::v1::frontend;
namespace types = moby::buildkit::v1::types;

using solve_atom = caf::atom_constant<caf::atom("solve")>;
using find_atom = caf::atom_constant<caf::atom("find")>;
using watch_atom = caf::atom_constant<caf::atom("watch")>;
using done_atom = caf::atom_constant<caf::atom("done")>;
using list_atom = caf::atom_constant<caf::atom("list")>;
using cancel_atom = caf::atom_constant<caf::atom("cancel")>;
using collect_atom = caf::atom_constant<caf::atom("collect")>;
using describe_atom = caf::atom_constant<caf::atom("describe")>;
using check_atom = caf::atom_constant<caf::atom("check")>;
using pin_atom = caf::atom_constant<caf::atom("pin")>;
using release_atom = caf::atom_constant<caf::atom("release")>;
using finalize_atom = caf::atom_constant<caf::atom("finalize")>;
using keys_atom = caf::atom_constant<caf::atom("keys")>;
using result_atom = caf::atom_constant<caf::atom("result")>;
using join_atom = caf::atom_constant<caf::atom("join")>;
using leave_atom = caf::atom_constant<caf::atom("leave")>;
using load_atom = caf::atom_constant<caf::atom("load")>;
using claim_atom = caf::atom_constant<caf::atom("claim")>;
using replay_atom = caf::atom_constant<caf::atom("replay")>;
using start_atom = caf::atom_constant<caf::atom("start")>;
using cache_atom = caf::atom_constant<caf::atom("cache")>;
using load_count_atom = caf::atom_constant<caf::atom("loadcount")>;
using remember_atom = caf::atom_constant<caf::atom("remember")>;
using lost_atom = caf::atom_constant<caf::atom("lost")>;

/// Gets the progress of a build: everything from its beginning, then as it happens, then the end.
using status_listener = caf::typed_actor<caf::reacts_to<ctl::StatusResponse>, caf::reacts_to<done_atom>>;

/// Gets build history events until `done` (or for ever).
using history_listener = caf::typed_actor<caf::reacts_to<ctl::BuildHistoryEvent>, caf::reacts_to<done_atom>>;

/// Gets pruned records, then `done`.
using prune_listener = caf::typed_actor<caf::reacts_to<ctl::UsageRecord>, caf::reacts_to<done_atom>>;

/// One build, as its frontend or gateway client uses it (LLBBridge). Errors are caf::error made by
/// to_caf() (actor_error.hpp) and keep code, text and details.
using build_actor =
    caf::typed_actor<caf::replies_to<gw::PingRequest>::with<gw::PongResponse>,
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
using builds_actor =
    caf::typed_actor<caf::replies_to<solve_atom, ctl::SolveRequest>::with<ctl::SolveResponse>,
                     /// The build of that ref; waits up to 3 s for it to register. not_found otherwise.
                     caf::replies_to<find_atom, std::string>::with<build_actor>,
                     /// Subscribes to a running build, or replays a finished one; waits up to 6 s for it to
                     /// appear.
                     caf::replies_to<watch_atom, std::string, status_listener>::with<bool>,
                     caf::reacts_to<cancel_atom, std::string>>;

/// The workers of this node (and, once clustered, of others).
using workers_actor =
    caf::typed_actor<caf::replies_to<list_atom, ctl::ListWorkersRequest>::with<ctl::ListWorkersResponse>>;

/// Cache records: usage and pruning.
using cache_manager_actor =
    caf::typed_actor<caf::replies_to<ctl::DiskUsageRequest>::with<ctl::DiskUsageResponse>,
                     /// Streams what goes to the listener; answers when all is done.
                     caf::replies_to<prune_rule, prune_listener>::with<bool>,
                     /// A build ended: collect garbage by policy (throttled).
                     caf::reacts_to<collect_atom>>;

/// Collects garbage by policy.
using garbage_collector_actor = caf::typed_actor<caf::reacts_to<collect_atom>>;

/// Finished and running builds.
using history_actor =
    caf::typed_actor<caf::replies_to<ctl::BuildHistoryRequest, history_listener>::with<bool>,
                     caf::replies_to<ctl::UpdateBuildHistoryRequest>::with<ctl::UpdateBuildHistoryResponse>,
                     /// A build began, changed or ended: stores and publishes the record.
                     caf::reacts_to<ctl::BuildHistoryEvent>,
                     /// Sends the kept progress of a finished build, then `done`; false when there is none of
                     /// that ref.
                     caf::replies_to<replay_atom, std::string, status_listener>::with<bool>>;

/// Gets the progress of one job or vertex as it happens.
using progress_actor = caf::typed_actor<caf::reacts_to<ctl::StatusResponse>>;

/// What other nodes, too, may ask of a worker (node/basp_gate.cpp says which of it may be large). Jobs and
/// pins belong to the actor that asked: they are cancelled and released when it goes. Refs are record ids of
/// this worker; the empty id is scratch.
using peer_worker_actor =
    caf::typed_actor<caf::replies_to<run_request, progress_actor>::with<run_reply>,
                     caf::replies_to<checksum_request, progress_actor>::with<digest>,
                     /// Keeps a ref from being collected until released; not_found when it is gone.
                     caf::replies_to<pin_atom, std::string>::with<bool>,
                     caf::reacts_to<release_atom, std::string>,
                     caf::replies_to<ref_scope, gw::ReadFileRequest>::with<gw::ReadFileResponse>,
                     caf::replies_to<ref_scope, gw::ReadDirRequest>::with<gw::ReadDirResponse>,
                     caf::replies_to<ref_scope, gw::StatFileRequest>::with<gw::StatFileResponse>,
                     caf::replies_to<prune_caches>::with<bool>,
                     /// Keeps links and results in this worker's cache-key database.
                     caf::reacts_to<remember_atom, cache_records>>;

/// The worker of this node, or who stands for it and for those of other nodes.
using worker_actor = peer_worker_actor::extend<
    caf::replies_to<describe_atom>::with<types::WorkerRecord>,
    caf::replies_to<key_request, progress_actor>::with<key_reply>,
    caf::replies_to<session_group, gw::ResolveSourceMetaRequest,
                    progress_actor>::with<gw::ResolveSourceMetaResponse>,
    /// Checks type and attributes of an export; the name of its progress vertex.
    caf::replies_to<check_atom, export_spec>::with<std::string>,
    caf::replies_to<export_request, progress_actor>::with<export_reply>,
    /// Second phase of an export (pushing); its response entries.
    caf::replies_to<finalize_atom, std::uint64_t, export_request, progress_actor>::with<export_reply>,
    /// Checks type and attributes of a cache export.
    caf::replies_to<check_atom, cache_entry>::with<cache_export_kind>,
    /// Imports a cache; vertices find it by its id until whoever asked goes.
    caf::replies_to<cache_import, progress_actor>::with<bool>,
    /// A ref of a result of an imported cache, pinned; empty = scratch.
    caf::replies_to<import_load, progress_actor>::with<run_reply>,
    caf::replies_to<cache_export, progress_actor>::with<export_reply>,
    caf::replies_to<load_count_atom>::with<worker_load>,
    /// Whoever that is, it is gone: cancels its jobs, releases its pins. (Its node may be cut off without
    /// anything having told this one.)
    caf::reacts_to<leave_atom, caf::strong_actor_ptr>>;

/// One op of running builds: keys it, finds or makes its results. Temporary.
using vertex_actor = caf::typed_actor<
    /// Somebody holds this vertex: gets its progress, lends its session (may be empty).
    caf::reacts_to<join_atom, progress_actor, std::string>, caf::reacts_to<leave_atom, progress_actor>,
    /// Keys of an output; true = content of inputs may be used (and evaluated) to find them. Empty:
    /// nothing known. Never runs the vertex itself.
    caf::replies_to<keys_atom, std::int32_t, bool>::with<key_set>,
    /// The result of an output, from the cache or by running; pinned while the vertex lives.
    caf::replies_to<result_atom, std::int32_t>::with<vertex_result>,
    /// That ref of an output is gone with its node: the next who asks gets it made again.
    caf::reacts_to<lost_atom, std::int32_t, std::string>,
    /// Further caches to look keys up in.
    caf::reacts_to<import_list>,
    /// Its outputs as far as they are known.
    caf::replies_to<cache_atom>::with<cache_steps>, caf::reacts_to<ctl::StatusResponse>>;

/// Directory of vertices by definition and by cache key (single flight); counts who holds them.
using build_graph_actor = caf::typed_actor<
    /// Places a definition's vertices for a holder (with its session); the root's vertex. Vertices go
    /// when all their holders have been released or died.
    caf::replies_to<load_atom, graph_spec, progress_actor, std::string>::with<vertex_actor>,
    caf::reacts_to<release_atom, progress_actor>,
    /// What the vertices of a holder know by now: the steps of its build.
    caf::replies_to<cache_atom, progress_actor>::with<cache_steps>,
    /// Claims a key for a vertex: answers that vertex, or the one that holds the key already.
    caf::replies_to<claim_atom, std::string, vertex_actor>::with<vertex_actor>,
    /// That vertex has failed: what it claimed is free.
    caf::reacts_to<leave_atom, vertex_actor>>;

}  // namespace kiln

// A type's position is its id: all nodes of a cluster run one version.
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
CAF_ADD_TYPE_ID(kiln, (kiln::prune_rule))
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
CAF_ADD_TYPE_ID(kiln, (kiln::types::WorkerRecord))
CAF_ADD_TYPE_ID(kiln, (kiln::digest))
CAF_ADD_TYPE_ID(kiln, (kiln::session_group))
CAF_ADD_TYPE_ID(kiln, (kiln::key_request))
CAF_ADD_TYPE_ID(kiln, (kiln::key_reply))
CAF_ADD_TYPE_ID(kiln, (kiln::run_request))
CAF_ADD_TYPE_ID(kiln, (kiln::run_reply))
CAF_ADD_TYPE_ID(kiln, (kiln::checksum_request))
CAF_ADD_TYPE_ID(kiln, (kiln::ref_scope))
CAF_ADD_TYPE_ID(kiln, (kiln::export_spec))
CAF_ADD_TYPE_ID(kiln, (kiln::export_request))
CAF_ADD_TYPE_ID(kiln, (kiln::export_reply))
CAF_ADD_TYPE_ID(kiln, (kiln::prune_caches))
CAF_ADD_TYPE_ID(kiln, (kiln::graph_spec))
CAF_ADD_TYPE_ID(kiln, (kiln::key_set))
CAF_ADD_TYPE_ID(kiln, (kiln::vertex_result))
CAF_ADD_TYPE_ID(kiln, (kiln::progress_actor))
CAF_ADD_TYPE_ID(kiln, (kiln::peer_worker_actor))
CAF_ADD_TYPE_ID(kiln, (kiln::vertex_actor))
CAF_ADD_TYPE_ID(kiln, (kiln::build_graph_actor))
CAF_ADD_TYPE_ID(kiln, (kiln::builds_actor))
CAF_ADD_TYPE_ID(kiln, (kiln::cache_entry))
CAF_ADD_TYPE_ID(kiln, (kiln::cache_export_kind))
CAF_ADD_TYPE_ID(kiln, (kiln::cache_import))
CAF_ADD_TYPE_ID(kiln, (kiln::import_list))
CAF_ADD_TYPE_ID(kiln, (kiln::import_load))
CAF_ADD_TYPE_ID(kiln, (kiln::cache_steps))
CAF_ADD_TYPE_ID(kiln, (kiln::cache_export))
CAF_ADD_TYPE_ID(kiln, (kiln::worker_load))
CAF_ADD_TYPE_ID(kiln, (kiln::cache_records))
CAF_END_TYPE_ID_BLOCK(kiln)
