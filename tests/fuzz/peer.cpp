// What another node asks of the peer service, and what it tells of its refs: a byte says what the packet is.
#include "gateway/peer/peer_requests.hpp"
#include "tests/fuzz/support/input.hpp"

namespace {

using namespace kiln;

/// A step on node b that has one secret and one agent.
pb::Op some_step() {
  pb::Op op;
  auto& exec = *op.mutable_exec();
  auto& secret = *exec.add_mounts();
  secret.set_mounttype(pb::SECRET);
  secret.mutable_secretopt()->set_id("secret");
  auto& ssh = *exec.add_mounts();
  ssh.set_mounttype(pb::SSH);
  return op;
}

void try_call(const kiln::v1::SessionFrame& first, const session_grants& grants) {
  auto call = gateway::call_asked_for(first, {"b"}, grants);
  if (!call.ok()) return;
  fuzz::require(call->session == "s1", "only the session of a step is called");
  fuzz::require(gateway::check_metadata(call->metadata).ok(),
                "gRPC takes all headers of a call that is let through");
  fuzz::require(!gateway::call_asked_for(first, {"c"}, grants).ok(), "another node may not do what one may");
  fuzz::require(grants.offers({"b"}, "s1", call->method), "what is let through is offered");
}

}  // namespace

void kiln::fuzz::try_input(std::string_view bytes) {
  static const auto step = some_step();
  session_grants grants;
  auto grant = grants.add("b", grant_of(step, {{"s1"}}));
  input in(bytes);
  while (!in.empty()) {
    auto what = in.byte() % 5;
    auto packet = in.packet();
    kiln::v1::DescribeRefRequest describe;
    kiln::v1::ProvideBlobRequest provide;
    kiln::v1::SessionInfoRequest info;
    kiln::v1::SessionFrame frame;
    kiln::v1::RefLayer layer;
    if (what == 0 && describe.ParseFromString(packet)) (void)gateway::ref_asked_for(describe);
    if (what == 1 && provide.ParseFromString(packet)) (void)gateway::blob_asked_for(provide);
    if (what == 2 && info.ParseFromString(packet)) {
      auto asked = gateway::session_asked_for(info, {"b"}, grants);
      require(!asked.ok() || asked->session == "s1", "only the session of a step is told of");
    }
    if (what == 3 && frame.ParseFromString(packet)) try_call(frame, grants);
    if (what == 4 && layer.ParseFromString(packet)) {
      auto read = gateway::from_proto(layer);
      if (read.ok())
        require(gateway::from_proto(gateway::to_proto(*read)).ok(), "what is believed can be said");
    }
  }
}
