#include "messages/actor_error.hpp"

#include <caf/all.hpp>
#include <catch2/catch.hpp>

#include "messages/actor_interfaces.hpp"

using namespace kiln;

TEST_CASE("an error keeps code, text and details through caf::error") {
  error e{errc::not_found,
          "no such stage",
          {{"github.com/moby/buildkit/errdefs.Vertex+json", R"({"digest":"x"})"}}};
  CHECK(from_caf(to_caf(e)) == e);
}

TEST_CASE("CAF's own errors get the code a client expects") {
  CHECK(from_caf(caf::sec::request_timeout).code == errc::deadline_exceeded);
  CHECK(from_caf(caf::sec::request_receiver_down).code == errc::unavailable);
  CHECK(from_caf(caf::exit_reason::user_shutdown).code == errc::cancelled);
  CHECK(from_caf(caf::sec::runtime_error).code == errc::internal);
}

TEST_CASE("a protobuf message survives CAF's serializer, and garbage is refused") {
  ctl::SolveRequest request;
  request.set_ref("abc");
  (*request.mutable_frontendattrs())["target"] = "app";
  caf::actor_system_config config;
  config.add_message_types<caf::id_block::kiln>();
  caf::actor_system system{config};
  caf::binary_serializer::container_type buffer;
  caf::binary_serializer sink{system, buffer};
  REQUIRE_FALSE(sink(request));
  ctl::SolveRequest copy;
  caf::binary_deserializer source{system, buffer};
  REQUIRE_FALSE(source(copy));
  CHECK(copy.SerializeAsString() == request.SerializeAsString());
}
