#include <catch2/catch.hpp>

#include "solver/step_entitlements.hpp"

using namespace kiln;

TEST_CASE("a step runs where the node's own configuration allows what it does beyond the sandbox") {
  pb::Op host, insecure, device, plain;
  plain.mutable_exec();
  host.mutable_exec()->set_network(pb::HOST);
  insecure.mutable_exec()->set_security(pb::INSECURE);
  device.mutable_exec()->add_cdidevices()->set_name("vendor.com/device=one");
  std::vector<solver::device> there{{"vendor.com/device=one", {}, false}};
  std::vector<solver::device> for_all{{"vendor.com/device=one", {}, true}};
  auto admit = [&](const pb::Op& op, std::vector<std::string> allowed,
                   const std::vector<solver::device>& devices) {
    return solver::admit_step(op, allowed, devices);
  };
  CHECK(admit(plain, {}, {}).ok());
  for (const auto* op : {&host, &insecure, &device}) {
    auto s = admit(*op, {}, there);
    REQUIRE_FALSE(s.ok());
    CHECK(s.error().code == errc::permission_denied);
  }
  CHECK(admit(host, {}, {}).error().message.find("network.host") == 0);
  CHECK(admit(host, {"network.host"}, {}).ok());
  CHECK_FALSE(admit(host, {"security.insecure", "device"}, {}).ok());
  CHECK(admit(insecure, {"security.insecure"}, {}).ok());
  CHECK(admit(device, {"device"}, there).ok());
  CHECK(admit(device, {}, for_all).ok());
  CHECK_FALSE(admit(device, {}, {}).ok());
}
