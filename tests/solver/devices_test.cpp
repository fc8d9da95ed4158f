// CDI devices: what a step's words mean, who may have them, and what becomes of the step.
#include <catch2/catch.hpp>

#include "solver/cache_map.hpp"
#include "solver/graph.hpp"

using namespace kiln;
using namespace kiln::solver;

namespace {

using strings = std::vector<std::string>;

std::vector<device> some_devices() {
  std::map<std::string, std::string> fast{{device_class_annotation, "fast"}};
  return {{"a.com/gpu=0", {}, false},
          {"a.com/gpu=1", fast, false},
          {"a.com/gpux=9", {}, false},
          {"b.com/nic=open", fast, true}};
}

pb::CDIDevice wish(const std::string& name, bool optional = false) {
  pb::CDIDevice out;
  out.set_name(name);
  out.set_optional(optional);
  return out;
}

strings found(std::vector<pb::CDIDevice> wanted) {
  auto out = find_devices(some_devices(), wanted);
  REQUIRE(out.ok());
  return *out;
}

entitlements granted(const strings& requested) {
  strings allowed{"device"};
  auto out = entitlements::grant(requested, allowed);
  if (!out.ok()) FAIL(out.error().message);
  return *std::move(out);
}

/// The names the step has afterwards, or the error.
strings admitted(const strings& requested, std::vector<pb::CDIDevice> wanted) {
  pb::ExecOp exec;
  exec.mutable_cdidevices()->Assign(wanted.begin(), wanted.end());
  auto s = granted(requested).admit_devices(exec, some_devices());
  if (!s.ok()) return {"error: " + s.error().message};
  strings out;
  for (const auto& d : exec.cdidevices()) out.push_back(d.name() + (d.optional() ? "?" : ""));
  return out;
}

}  // namespace

TEST_CASE("a device is asked for by name, kind, wildcard or class") {
  CHECK(found({wish("a.com/gpu=1")}) == strings{"a.com/gpu=1"});
  CHECK(found({wish("a.com/gpu")}) == strings{"a.com/gpu=0"});
  CHECK(found({wish("a.com/gpu=*")}) == strings{"a.com/gpu=0", "a.com/gpu=1"});
  CHECK(found({wish("fast")}) == strings{"a.com/gpu=1", "b.com/nic=open"});
  CHECK(found({wish("fast"), wish("a.com/gpu=*")}) ==
        strings{"a.com/gpu=1", "b.com/nic=open", "a.com/gpu=0"});
  CHECK(found({wish("c.com/tpu", true), wish("slow", true)}).empty());
  auto missing = find_devices(some_devices(), std::vector{wish("a.com/gpu=7")});
  REQUIRE_FALSE(missing.ok());
  CHECK(missing.error().message == "required device \"a.com/gpu=7\" is not registered");
}

TEST_CASE("a step gets the devices it was granted, under their full names") {
  const std::string refused = " is requested by the build but not allowed";
  CHECK(admitted({}, {wish("a.com/gpu")}) == strings{"error: device a.com/gpu=0" + refused});
  CHECK(admitted({}, {wish("a.com/gpu=*", true)}) ==
        strings{"error: devices a.com/gpu=0, a.com/gpu=1 are requested by the build but not allowed"});
  CHECK(admitted({}, {wish("b.com/nic", true), wish("c.com/tpu", true)}) == strings{"b.com/nic=open"});
  CHECK(admitted({}, {wish("c.com/tpu")}) ==
        strings{"error: required device \"c.com/tpu\" is not registered"});

  CHECK(admitted({"device=a.com/gpu=1"}, {wish("a.com/gpu=1")}) == strings{"a.com/gpu=1"});
  CHECK(admitted({"device=fast"}, {wish("a.com/gpu=1")}) == strings{"a.com/gpu=1"});
  // A kind grants what it means when it is asked for: its first device.
  CHECK(admitted({"device=a.com/gpu"}, {wish("a.com/gpu")}) == strings{"a.com/gpu=0"});
  CHECK(admitted({"device=a.com/gpu"}, {wish("a.com/gpu=1")}) ==
        strings{"error: device a.com/gpu=1" + refused});
  CHECK(admitted({"device=a.com/gpu=*"}, {wish("a.com/gpu=1")}) == strings{"a.com/gpu=1"});
  CHECK(admitted({"device=c.com/tpu"}, {wish("a.com/gpu=1")}) ==
        strings{"error: required device \"c.com/tpu\" is not registered"});

  SECTION("all of them: the step keeps its own words") {
    for (const char* all : {"device", "device="})
      CHECK(admitted({all}, {wish("a.com/gpu"), wish("c.com/tpu", true)}) ==
            strings{"a.com/gpu", "c.com/tpu?"});
  }
  SECTION("an alias is another name for a device, and grants it") {
    CHECK(admitted({"device=a.com/gpu=1,alias=mine"}, {wish("mine"), wish("b.com/nic")}) ==
          strings{"a.com/gpu=1", "b.com/nic=open"});
    CHECK(admitted({"device=a.com/gpu=1,alias=mine"}, {wish("a.com/gpu=1")}) ==
          strings{"error: device a.com/gpu=1" + refused});
  }
}

TEST_CASE("device entitlements that make no sense are refused") {
  auto refusal = [](const std::string& text) {
    strings requested{text}, allowed{"device"};
    auto g = entitlements::grant(requested, allowed);
    REQUIRE_FALSE(g.ok());
    return g.error().message;
  };
  CHECK(refusal("device=a,alias") == "invalid device config \"alias\"");
  CHECK(refusal("device=a,color=red") == "unknown device config key \"color\"");
  strings requested{"device=a"};
  CHECK(entitlements::grant(requested, {}).error().message ==
        "granting entitlement device is not allowed by build daemon configuration");
}

TEST_CASE("a loaded step is keyed by the devices it gets, not by the words for them") {
  auto definition = [](const std::string& device) {
    pb::Definition def;
    pb::Op source, exec, end;
    source.mutable_source()->set_identifier("docker-image://x");
    def.add_def(source.SerializeAsString());
    exec.add_inputs()->set_digest(sha256(def.def(0)).str());
    exec.mutable_exec()->mutable_meta()->add_args("true");
    exec.mutable_exec()->mutable_meta()->set_cwd("/");
    exec.mutable_exec()->add_mounts()->set_dest("/");
    if (!device.empty()) *exec.mutable_exec()->add_cdidevices() = wish(device, true);
    def.add_def(exec.SerializeAsString());
    end.add_inputs()->set_digest(sha256(def.def(1)).str());
    def.add_def(end.SerializeAsString());
    return def;
  };
  auto devices = some_devices();
  auto loaded = [&](const std::string& device, const strings& requested) {
    auto g = granted(requested);
    load_options options;
    options.granted = &g;
    options.devices = devices;
    auto out = load(definition(device), options);
    if (!out.ok()) FAIL(out.error().message);
    return out->vertices.back();
  };
  auto key = [](const vertex& v) { return cache_map_of(v.op, v.platform)->op_digest; };
  auto first = loaded("a.com/gpu", {"device=a.com/gpu=*"});
  CHECK(first.op.exec().cdidevices(0).name() == "a.com/gpu=0");
  CHECK(first.original == sha256(definition("a.com/gpu").def(1)));
  CHECK(first.digest != first.original);
  CHECK(key(first) == key(loaded("a.com/gpu=0", {"device=a.com/gpu=*"})));
  CHECK(key(first) != key(loaded("a.com/gpu=1", {"device=a.com/gpu=*"})));
  CHECK(key(loaded("c.com/tpu", {})) == key(loaded("", {})));
  // By the same words two builds may mean different devices: then these are different steps.
  auto one = loaded("mine", {"device=a.com/gpu=0,alias=mine"}),
       other = loaded("mine", {"device=a.com/gpu=1,alias=mine"});
  CHECK(one.original == other.original);
  CHECK(one.digest != other.digest);

  load_options refused;
  auto none = granted({});
  refused.granted = &none;
  refused.devices = devices;
  auto g = load(definition("a.com/gpu"), refused);
  REQUIRE_FALSE(g.ok());
  CHECK(g.error().code == errc::permission_denied);
}
