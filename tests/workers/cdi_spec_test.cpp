// CDI spec files, the registry of their devices, and their edits in an OCI configuration.
#include <catch2/catch.hpp>

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "tests/support/temp_dir.hpp"
#include "workers/cdi/apply.hpp"
#include "workers/cdi/registry.hpp"
#include "workers/executor/oci_spec.hpp"

using namespace kiln;
using namespace kiln::test;
using namespace kiln::workers::cdi;
using nlohmann::json;

namespace {

const std::string everything = R"(---
cdiVersion: "1.1.0"   # a comment
kind: vendor.com/gpu.big
annotations:
  org.mobyproject.buildkit.device.autoallow: yes
containerEdits:
  env: [ALL=1]
devices:
- name: "0"
  annotations: {org.mobyproject.buildkit.device.class: fast}
  containerEdits:
    env:
    - GPU=0
    deviceNodes:
    - path: /dev/gpu0
      hostPath: /dev/null
      type: c
      major: 195
      minor: 0x10
      fileMode: 0640
      permissions: rw
      uid: 1
      gid: 2
    mounts:
    - {hostPath: /usr/lib/x, containerPath: /usr/lib/y, options: [ro, bind], type: bind}
    hooks:
    - hookName: createContainer
      path: /bin/hook
      args: [hook, a]
      env: [H=1]
      timeout: 5
    netDevices:
    - {hostInterfaceName: eth7, name: net0}
    intelRdt: {closID: c1, l3CacheSchema: "L3:0=f", memBwSchema: "MB:0=20", schemata: [a], enableMonitoring: true}
    additionalGids: [44, 0]
)";

std::string one_device(const std::string& kind, const std::string& name, const std::string& more = "") {
  return "cdiVersion: 0.6.0\nkind: " + kind + "\ndevices:\n- name: " + name + "\n  containerEdits: {env: [" +
         name + "=1]}\n" + more;
}

std::string wrong(const std::string& text) {
  auto s = parse_spec(text);
  REQUIRE_FALSE(s.ok());
  return s.error().message;
}

std::vector<std::string> names(registry& r) {
  std::vector<std::string> out;
  for (const auto& d : r.devices()) out.push_back(d.name);
  return out;
}

pb::CDIDevice wanted(const std::string& name, bool optional = false) {
  pb::CDIDevice out;
  out.set_name(name);
  out.set_optional(optional);
  return out;
}

result<container_edits> edits_of(registry& r, std::vector<pb::CDIDevice> devices) {
  return r.edits_of(devices);
}

workers::container_spec plain_container() {
  workers::container_spec c;
  c.rootfs = "/r";
  c.process.args = {"true"};
  c.process.env = {"PATH=/bin", "GPU=none"};
  return c;
}

}  // namespace

TEST_CASE("a CDI spec is read with all its edits, from YAML as from JSON") {
  auto s = parse_spec(everything);
  if (!s.ok()) FAIL(s.error().message);
  CHECK(s->kind == "vendor.com/gpu.big");
  CHECK(s->annotations.at("org.mobyproject.buildkit.device.autoallow") == "true");
  CHECK(s->edits.env == std::vector<std::string>{"ALL=1"});
  REQUIRE(s->devices.size() == 1);
  const auto& e = s->devices[0].edits;
  CHECK(s->devices[0].name == "0");
  REQUIRE(e.device_nodes.size() == 1);
  CHECK(e.device_nodes[0].host_path == "/dev/null");
  CHECK(e.device_nodes[0].minor == 16);
  CHECK(e.device_nodes[0].file_mode == 0640);
  CHECK(e.device_nodes[0].uid == 1);
  CHECK(e.mounts.at(0).options == std::vector<std::string>{"ro", "bind"});
  CHECK(e.hooks.at(0).timeout_s == 5);
  CHECK(e.net_devices.at(0).name == "net0");
  CHECK(e.rdt->monitoring);
  CHECK(e.additional_gids == std::vector<std::uint32_t>{44, 0});

  auto j = parse_spec(
      "{\n\t\"cdiVersion\": \"0.5.0\",\n\t\"kind\": \"v\\/c\",\n\t\"devices\": [\n\t\t{\"name\": \"d\", "
      "\"containerEdits\": {\"env\": [\"A=\\u00e9\\n\"], \"deviceNodes\": null}}\n\t]\n}\n");
  if (!j.ok()) FAIL(j.error().message);
  CHECK(j->devices.at(0).edits.env.at(0) == "A=\u00e9\n");
}

TEST_CASE("a bad CDI spec is refused with what is wrong and where") {
  CHECK(wrong("") == "no spec data");
  CHECK(wrong("a: b\nc: [\n").starts_with("line 3: end of sequence"));
  CHECK(wrong("[]") == "line 1: expected a mapping");
  CHECK(wrong("cdiVersion: 0.6.0\nkindd: a/b\n") == "line 2: kindd: unknown field");
  CHECK(wrong("kind: a/b\nkind: a/c\n") == "line 2: kind: given twice");
  CHECK(wrong("kind: [a]") == "line 1: kind: expected a text");
  CHECK(wrong("devices: {}") == "line 1: devices: expected a list");
  CHECK(wrong("devices:\n- name: a\n  containerEdits:\n    mounts:\n    - {hostPth: /x}\n") ==
        "line 5: devices[0].containerEdits.mounts[0].hostPth: unknown field");
  CHECK(wrong("containerEdits: {additionalGids: [-1]}") ==
        "line 1: containerEdits.additionalGids[0]: -1 is out of range");
  CHECK(wrong("containerEdits: {additionalGids: [4x]}") ==
        "line 1: containerEdits.additionalGids[0]: \"4x\" is not a number");
  CHECK(wrong("containerEdits: {intelRdt: {enableMonitoring: 3}}") ==
        "line 1: containerEdits.intelRdt.enableMonitoring: expected true or false");

  CHECK(wrong(std::string(100'000, '[') + std::string(100'000, ']')).starts_with("line 1: "));

  CHECK(wrong("cdiVersion: 9.0.0") == "unknown cdiVersion \"9.0.0\"");
  CHECK(wrong("cdiVersion: 0.6.0\nkind: gpu\n") == "kind \"gpu\": expected vendor/class");
  CHECK(wrong("cdiVersion: 0.6.0\nkind: 1v/c\n").find("kind \"1v/c\": \"1v\" must begin with a letter") == 0);
  CHECK(wrong("cdiVersion: 0.6.0\nkind: v/c\n") == "there are no devices");
  CHECK(wrong("cdiVersion: 0.6.0\nkind: v/c\ndevices: [{name: a}]\n") ==
        "device \"a\" has no containerEdits");
  CHECK(wrong(one_device("v/c", "a_")).find("device name \"a_\": must begin and end with") == 0);
  CHECK(wrong(one_device("v/c", "a", "- {name: a, containerEdits: {env: [A=1]}}\n")) ==
        "device \"a\" is given twice");
  auto edit = [](const std::string& edits) {
    return wrong("cdiVersion: 1.1.0\nkind: v/c\ndevices:\n- name: a\n  containerEdits: {" + edits + "}\n");
  };
  CHECK(edit("env: [A]") == "device \"a\": environment variable \"A\": expected NAME=value");
  CHECK(edit("deviceNodes: [{}]") == "device \"a\": a device node has no path");
  CHECK(edit("deviceNodes: [{path: /d, type: x}]") ==
        "device \"a\": device node \"/d\": type \"x\": expected b, c, u or p");
  CHECK(edit("deviceNodes: [{path: /d, permissions: rx}]") ==
        "device \"a\": device node \"/d\": permissions \"rx\": expected r, w and m");
  CHECK(edit("mounts: [{containerPath: /c}]") == "device \"a\": mount \"/c\" has no hostPath");
  CHECK(edit("hooks: [{hookName: later, path: /h}]") == "device \"a\": unknown hook \"later\"");
  CHECK(edit("intelRdt: {closID: a/b}") == "device \"a\": intelRdt.closID \"a/b\" is not a file name");
  CHECK(edit("netDevices: [{hostInterfaceName: a, name: n}, {hostInterfaceName: b, name: n}]") ==
        "device \"a\": two network devices get the name \"n\"");
}

TEST_CASE("a CDI spec may use only what its version has") {
  auto of_version = [](const std::string& version, const std::string& edits, const std::string& more = "") {
    return parse_spec("cdiVersion: " + version + "\nkind: v/c\n" + more +
                      "devices:\n- name: a\n  containerEdits: {" + edits + "}\n");
  };
  CHECK(of_version("0.3.0", "env: [A=1]").ok());
  CHECK(of_version("v0.3.0", "env: [A=1]").ok());
  struct {
    const char *before, *since, *edits, *more;
  } fields[] = {{"0.3.0", "0.4.0", "mounts: [{hostPath: /a, containerPath: /b, type: bind}]", ""},
                {"0.4.0", "0.5.0", "deviceNodes: [{path: /a, hostPath: /b}]", ""},
                {"0.5.0", "0.6.0", "env: [A=1]", "annotations: {a: b}\n"},
                {"0.6.0", "0.7.0", "additionalGids: [1]", ""},
                {"1.0.0", "1.1.0", "netDevices: [{hostInterfaceName: a, name: b}]", ""}};
  for (const auto& f : fields) {
    CHECK(of_version(f.since, f.edits, f.more).ok());
    CHECK(of_version("1.1.0", f.edits, f.more).ok());
    auto early = of_version(f.before, f.edits, f.more);
    REQUIRE_FALSE(early.ok());
    CHECK(early.error().message ==
          "cdiVersion \"" + std::string(f.before) + "\": what it uses needs at least " + f.since);
  }
}

TEST_CASE("edits change a container's configuration") {
  auto s = parse_spec(everything);
  REQUIRE(s.ok());
  auto c = plain_container();
  c.edits.append(s->edits);
  c.edits.append(s->devices[0].edits);
  c.mounts = {{"/usr/lib/y/deeper", "bind", "/x", {"rbind"}}, {"/a/b/c/d", "tmpfs", "tmpfs", {}}};
  workers::spec_context context;
  context.user.uid = 1000;
  context.user.additional_gids = {7};
  auto made = workers::make_oci_spec(c, context);
  REQUIRE(made.ok());
  auto& spec = *made;
  CHECK(spec["process"]["env"] == json{"PATH=/bin", "GPU=0", "ALL=1"});
  CHECK(spec["process"]["user"]["additionalGids"] == json{7, 44});
  CHECK(spec["linux"]["devices"] == json::array({{{"path", "/dev/gpu0"},
                                                  {"type", "c"},
                                                  {"major", 195},
                                                  {"minor", 16},
                                                  {"fileMode", 0640},
                                                  {"uid", 1},
                                                  {"gid", 2}}}));
  CHECK(spec["linux"]["resources"]["devices"].back() ==
        json{{"allow", true}, {"type", "c"}, {"major", 195}, {"minor", 16}, {"access", "rw"}});
  CHECK(spec["linux"]["netDevices"] == json{{"eth7", {{"name", "net0"}}}});
  CHECK(spec["linux"]["intelRdt"]["closID"] == "c1");
  CHECK(spec["hooks"]["createContainer"][0] ==
        json{{"path", "/bin/hook"}, {"args", {"hook", "a"}}, {"env", {"H=1"}}, {"timeout", 5}});
  std::vector<std::string> order;
  for (const auto& m : spec["mounts"])
    if (auto d = text_value(m["destination"]); d.starts_with("/usr") || d.starts_with("/a/"))
      order.push_back(d);
  CHECK(order == std::vector<std::string>{"/usr/lib/y", "/usr/lib/y/deeper", "/a/b/c/d"});

  SECTION("a node without an owner is the user's, all of it allowed; one at the same path goes") {
    c.edits = {};
    c.edits.device_nodes = {{"/dev/a", "", "c", 1, 2, {}, "", {}, {}},
                            {"/dev/a", "", "b", 3, 4, {}, "", {}, {}}};
    auto plain = workers::make_oci_spec(c, context);
    REQUIRE((*plain)["linux"]["devices"].size() == 1);
    CHECK((*plain)["linux"]["devices"][0] ==
          json{{"path", "/dev/a"}, {"type", "b"}, {"major", 3}, {"minor", 4}, {"uid", 1000}});
    CHECK((*plain)["linux"]["resources"]["devices"].back()["access"] == "rwm");
  }
}

TEST_CASE("device nodes take from the host what they leave open") {
  temp_dir dir;
  container_edits e;
  e.device_nodes = {{"/dev/zero-of-ours", "/dev/zero", "", 0, 0, {}, "", {}, {}}};
  REQUIRE(complete_device_nodes(e).ok());
  CHECK(e.device_nodes[0].type == "c");
  CHECK(e.device_nodes[0].major == 1);
  CHECK(e.device_nodes[0].minor == 5);
  CHECK(e.device_nodes[0].file_mode.has_value());
  auto failure = [](device_node d) {
    container_edits one;
    one.device_nodes = {std::move(d)};
    auto s = complete_device_nodes(one);
    REQUIRE_FALSE(s.ok());
    return s.error().message;
  };
  CHECK(failure({"/dev/none-such", "", "", 0, 0, {}, "", {}, {}}) ==
        "failed to stat CDI host device \"/dev/none-such\": no such file or directory");
  CHECK(failure({"/dev/x", dir.path().string(), "", 0, 0, {}, "", {}, {}}).ends_with("not a device node"));
  CHECK(failure({"/dev/x", "/dev/zero", "b", 0, 0, {}, "", {}, {}}) ==
        "CDI device \"/dev/x\" is of type b, but \"/dev/zero\" on the host of type c");
  // One that is described needs no host.
  container_edits described;
  described.device_nodes = {{"/dev/none-such", "", "c", 5, 0, {}, "", {}, {}}};
  CHECK(complete_device_nodes(described).ok());
}

TEST_CASE("the registry lists the devices of all spec directories and follows changes") {
  temp_dir low, high;
  registry r({{low.path().string(), high.path().string(), "/no/such/dir"}, {"auto.com/kind", "v.com/c=b"}});
  CHECK(r.devices().empty());
  CHECK(r.warnings().empty());

  write_file(low / "v.yaml", one_device("v.com/c", "b", "- {name: a, containerEdits: {env: [LOW=1]}}\n"));
  write_file(low / "notes.txt", "no spec");
  write_file(low / "sub.yaml/x.yaml", one_device("v.com/c", "hidden"));
  CHECK(names(r) == std::vector<std::string>{"v.com/c=a", "v.com/c=b"});
  CHECK_FALSE(r.devices()[0].auto_allowed);
  CHECK(r.devices()[1].auto_allowed);

  SECTION("later directories take precedence") {
    write_file(
        high / "v.json",
        R"({"cdiVersion":"0.6.0","kind":"v.com/c","devices":[{"name":"a","containerEdits":{"env":["HIGH=1"]}}]})");
    CHECK(names(r).size() == 2);
    CHECK(edits_of(r, {wanted("v.com/c=a")})->env == std::vector<std::string>{"HIGH=1"});
    std::filesystem::remove(high / "v.json");
    CHECK(edits_of(r, {wanted("v.com/c=a")})->env == std::vector<std::string>{"LOW=1"});
  }
  SECTION("what two files of a directory claim is nobody's, until a later one settles it") {
    write_file(low / "w.yaml", one_device("v.com/c", "a"));
    CHECK(names(r) == std::vector<std::string>{"v.com/c=b"});
    REQUIRE(r.warnings().size() == 1);
    CHECK(r.warnings()[0] == (low / "w.yaml").string() + ": device \"v.com/c=a\" is also in " +
                                 (low / "v.yaml").string() + ": neither is used");
    write_file(high / "a.yaml", one_device("v.com/c", "a"));
    CHECK(names(r).size() == 2);
  }
  SECTION("a bad file is a warning that names it; the others count") {
    write_file(high / "bad.yaml", "kind: a/b\nkin: c\n");
    CHECK(names(r).size() == 2);
    REQUIRE(r.warnings().size() == 1);
    CHECK(r.warnings()[0] == (high / "bad.yaml").string() + ": line 2: kin: unknown field");
    write_file(high / "bad.yaml", one_device("x.com/y", "z"));
    CHECK(r.warnings().empty());
    CHECK(names(r).size() == 3);
  }
  SECTION(
      "annotations come from the device and its spec; one lets every build have it, and so does the config") {
    write_file(high / "x.yaml", one_device("x.com/y", "z",
                                           "  annotations: {a: device}\nannotations: {a: spec, b: spec, "
                                           "org.mobyproject.buildkit.device.autoallow: true}\n"));
    write_file(high / "auto.yaml", one_device("auto.com/kind", "d"));
    auto all = r.devices();
    REQUIRE(all.size() == 4);
    CHECK(all[0].name == "auto.com/kind=d");
    CHECK(all[0].auto_allowed);
    CHECK(all[3].auto_allowed);
    CHECK(all[3].annotations.at("a") == "device");
    CHECK(all[3].annotations.at("b") == "spec");
  }
  SECTION("the edits of a spec count once, before those of its devices") {
    write_file(high / "x.yaml",
               one_device("x.com/y", "m",
                          "- {name: n, containerEdits: {env: [n=1]}}\ncontainerEdits: {env: [S=1]}\n"));
    auto e = edits_of(r, {wanted("x.com/y=*"), wanted("gone.com/d=1", true)});
    REQUIRE(e.ok());
    CHECK(e->env == std::vector<std::string>{"S=1", "m=1", "n=1"});
    auto missing = edits_of(r, {wanted("gone.com/d=1")});
    REQUIRE_FALSE(missing.ok());
    CHECK(missing.error().message == "required device \"gone.com/d=1\" is not registered");
  }
}
