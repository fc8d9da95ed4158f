#include "gateway/peer/cluster_service.hpp"

#include "messages/cluster_text.hpp"

namespace kiln::gateway {

namespace {

error no_cluster() { return make_error(errc::failed_precondition, "this daemon is not part of a cluster"); }

void to_proto(const node_view& n, v1::Node& out) {
  out.set_name(n.info.name);
  out.set_state(n.state);
  out.set_reason(n.reason);
  if (!n.info.name.empty()) out.set_role(std::string(to_string(n.info.role)));
  out.set_version(n.info.version);
  out.set_control_address(n.info.control_address);
  out.set_data_address(n.info.data_address);
  out.set_slots(n.info.slots);
  out.set_running(n.load.running);
  out.set_waiting(n.load.waiting);
  out.set_draining(n.load.draining);
  out.set_refs(n.load.refs);
  out.set_bytes_in(n.load.bytes_in);
  out.set_bytes_out(n.load.bytes_out);
  out.set_disk_free(n.load.disk_free);
  out.set_round_trip_ns(n.round_trip_ns);
  out.set_since_ns(n.since_ns);
  out.set_worker_id(n.info.record.id());
}

}  // namespace

grpc::ServerUnaryReactor* cluster_service::Nodes(grpc::CallbackServerContext*, const v1::NodesRequest*,
                                                 v1::NodesResponse* response) {
  using nodes_call = unary_call<v1::NodesResponse>;
  auto call = nodes_call::make("Cluster/Nodes", response);
  auto* reactor = call.get();
  if (!services_.cluster) {
    call->fail(no_cluster());
    return reactor;
  }
  ask<nodes_call, cluster_view>(
      *services_.system, std::move(call), services_.cluster(),
      [](nodes_call& c, cluster_view& view) {
        v1::NodesResponse out;
        for (const auto& n : view.nodes) to_proto(n, *out.add_nodes());
        c.succeed(std::move(out));
      },
      list_atom::value);
  return reactor;
}

grpc::ServerUnaryReactor* cluster_service::Drain(grpc::CallbackServerContext*,
                                                 const v1::DrainRequest* request,
                                                 v1::DrainResponse* response) {
  using drain_call = unary_call<v1::DrainResponse>;
  auto call = drain_call::make("Cluster/Drain", response);
  auto* reactor = call.get();
  if (!services_.cluster) {
    call->fail(no_cluster());
    return reactor;
  }
  ask<drain_call, bool>(
      *services_.system, std::move(call), services_.cluster(), [](drain_call& c, bool&) { c.succeed({}); },
      drain_atom::value, request->name());
  return reactor;
}

}  // namespace kiln::gateway
