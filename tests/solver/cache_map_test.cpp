#include <catch2/catch.hpp>

#include <algorithm>
#include <random>
#include <set>

#include "base/base64.hpp"
#include "base/quoting.hpp"
#include "base/slash_path.hpp"
#include "solver/cache_map.hpp"
#include "solver/exact_json.hpp"
#include "solver/go_json.hpp"

using namespace kiln;
using namespace kiln::solver;

namespace {

const platform amd64{"linux", "amd64", "", "", {}};

pb::Op run_op() {
  pb::Op op;
  op.add_inputs()->set_digest(sha256("base").str());
  auto& exec = *op.mutable_exec();
  exec.mutable_meta()->add_args("/bin/sh");
  exec.mutable_meta()->add_args("-c");
  exec.mutable_meta()->add_args("echo <a> && true");
  exec.mutable_meta()->set_cwd("/");
  auto& root = *exec.add_mounts();
  root.set_input(0);
  root.set_dest("/");
  root.set_output(0);
  return op;
}

cache_map must(result<cache_map> r) {
  REQUIRE(r.ok());
  return *std::move(r);
}

std::string exec_text(const std::string& exec) {
  return "{\"Type\":\"buildkit.exec.v0\",\"Exec\":" + exec + ",\"OS\":\"linux\",\"Arch\":\"amd64\"}";
}

const std::string run_meta =
    R"("meta":{"args":["/bin/sh","-c","echo \u003ca\u003e \u0026\u0026 true"],"cwd":"/"})";

}  // namespace

TEST_CASE("the lone default root mount is left out of an exec's key text") {
  auto map = must(cache_map_of(run_op(), amd64));
  CHECK(map.op_digest == sha256(exec_text("{" + run_meta + "}")));
  REQUIRE(map.dependencies.size() == 1);
  CHECK(map.dependencies[0].selector == sha256("/").str());
  CHECK_FALSE(map.dependencies[0].content_based);
}

TEST_CASE("host addresses, proxies, selectors and foreign cache ids do not change an exec's key") {
  auto op = run_op();
  op.add_inputs()->set_digest(sha256("other").str());
  auto& exec = *op.mutable_exec();
  auto& host = *exec.mutable_meta()->add_extrahosts();
  host.set_host("a");
  host.set_ip("1.2.3.4");
  exec.mutable_meta()->mutable_proxy_env()->set_http_proxy("http://p");
  auto& from = *exec.add_mounts();
  from.set_input(1);
  from.set_selector("/src/../src/dir");
  from.set_dest("/mnt");
  from.set_output(-1);
  from.set_readonly(true);
  auto& cache = *exec.add_mounts();
  cache.set_input(-1);
  cache.set_output(-1);
  cache.set_dest("/cache");
  cache.set_mounttype(pb::CACHE);
  cache.mutable_cacheopt()->set_id("mine");

  auto map = must(cache_map_of(op, amd64));
  CHECK(
      map.op_digest ==
      sha256(exec_text(R"({"meta":{"args":["/bin/sh","-c","echo \u003ca\u003e \u0026\u0026 true"],"cwd":"/",)"
                       R"("extraHosts":[{"Host":"a"}]},"mounts":[{"dest":"/"},)"
                       R"({"input":1,"dest":"/mnt","output":-1,"readonly":true},)"
                       R"({"input":-1,"dest":"/cache","output":-1,"mountType":3,"cacheOpt":{}}]})")));
  CHECK(map.dependencies[1].selector == sha256("/src/dir").str());
  REQUIRE(map.dependencies[1].content.size() == 1);
  CHECK(map.dependencies[1].content[0].path == "/src/dir");
  CHECK(map.dependencies[1].content[0].follow_links);

  // The Dockerfile's default id is part of the key.
  op.mutable_exec()->mutable_mounts(2)->mutable_cacheopt()->set_id("ns//cache");
  auto with_default = must(cache_map_of(op, amd64));
  CHECK(with_default.op_digest != map.op_digest);
}

TEST_CASE("a platform's variant and features are part of an exec's key") {
  auto text =
      "{\"Type\":\"buildkit.exec.v0\",\"Exec\":{" + run_meta +
      "},\"OS\":\"windows\",\"Arch\":\"arm\",\"Variant\":\"v7\",\"OSVersion\":\"10\",\"OSFeatures\":[\"x\"]}";
  CHECK(must(cache_map_of(run_op(), {"windows", "arm", "v7", "10", {"x"}})).op_digest == sha256(text));
}

TEST_CASE("content keys are refused where unselected files could slip into an output") {
  auto op = run_op();
  op.add_inputs()->set_digest(sha256("snapshot").str());
  auto& m = *op.mutable_exec()->add_mounts();
  m.set_input(1);
  m.set_selector("bar");
  m.set_dest("/bar");
  m.set_output(1);
  CHECK_FALSE(must(cache_map_of(op, amd64)).dependencies[1].content_based);
  m.set_contentcache(pb::ON);
  CHECK_FALSE(cache_map_of(op, amd64).ok());
  m.set_output(-1);
  CHECK(must(cache_map_of(op, amd64)).dependencies[1].content_based);
  m.set_contentcache(pb::OFF);
  CHECK_FALSE(must(cache_map_of(op, amd64)).dependencies[1].content_based);
}

TEST_CASE("the root mount counts by content only when asked to") {
  auto op = run_op();
  op.mutable_exec()->mutable_mounts(0)->set_contentcache(pb::ON);
  auto map = must(cache_map_of(op, amd64));
  CHECK(map.dependencies[0].content_based);
  REQUIRE(map.dependencies[0].content.size() == 1);
  CHECK(map.dependencies[0].content[0].path == "/");
}

namespace {

pb::Op copy_op() {
  pb::Op op;
  op.add_inputs()->set_digest(sha256("base").str());
  op.add_inputs()->set_digest(sha256("context").str());
  auto& a = *op.mutable_file()->add_actions();
  a.set_input(0);
  a.set_secondaryinput(1);
  a.set_output(0);
  auto& copy = *a.mutable_copy();
  copy.set_src("/src/app/");
  copy.set_dest("/app");
  copy.set_mode(-1);
  copy.set_followsymlink(true);
  copy.set_timestamp(-1);
  return op;
}

}  // namespace

TEST_CASE("a copy counts by the base name and the content of its source") {
  auto map = must(cache_map_of(copy_op(), amd64));
  std::string action = R"({"src":"app","dest":"/app","mode":-1,"followSymlink":true,"timestamp":-1})";
  CHECK(map.op_digest ==
        sha256(R"({"Type":"buildkit.file.v0","Actions":[")" + base64_encode(action) + R"("]})"));
  CHECK(map.dependencies[0].selector.empty());
  CHECK_FALSE(map.dependencies[0].content_based);
  CHECK(map.dependencies[1].selector == sha256("/src/app/").str());
  REQUIRE(map.dependencies[1].content.size() == 1);
  CHECK(map.dependencies[1].content[0].path == "/src/app");
}

TEST_CASE("unusual action indexes are part of a file op's key") {
  auto op = copy_op();
  op.mutable_file()->mutable_actions(0)->set_input(-1);
  auto map = must(cache_map_of(op, amd64));
  std::string action = R"({"src":"app","dest":"/app","mode":-1,"followSymlink":true,"timestamp":-1})";
  CHECK(map.op_digest == sha256(R"({"Type":"buildkit.file.v0","Actions":[")" + base64_encode(action) +
                                R"("],"indexes":[[-1,1,0]]})"));
}

TEST_CASE("an input that is written to never counts by content") {
  auto op = copy_op();
  op.mutable_file()->mutable_actions(0)->set_input(1);
  op.mutable_file()->mutable_actions(0)->set_secondaryinput(1);
  auto map = must(cache_map_of(op, amd64));
  CHECK(map.dependencies[1].selector.empty());
  CHECK_FALSE(map.dependencies[1].content_based);
}

TEST_CASE("owners by name select the password files of their input") {
  auto op = copy_op();
  auto& owner = *op.mutable_file()->mutable_actions(0)->mutable_copy()->mutable_owner();
  owner.mutable_user()->mutable_byname()->set_name("app");
  owner.mutable_user()->mutable_byname()->set_input(1);
  owner.mutable_group()->set_byid(0);
  auto map = must(cache_map_of(op, amd64));
  std::string action =
      R"({"src":"app","dest":"/app","owner":{"user":{"User":{"byName":{"name":"app","input":1}}},)"
      R"("group":{"User":{}}},"mode":-1,"followSymlink":true,"timestamp":-1})";
  CHECK(map.op_digest ==
        sha256(R"({"Type":"buildkit.file.v0","Actions":[")" + base64_encode(action) + R"("]})"));
  std::string joined = "/src/app/";
  joined += '\0';
  joined += "/etc/passwd";
  CHECK(map.dependencies[1].selector == sha256(joined).str());
  REQUIRE(map.dependencies[1].content.size() == 2);
  CHECK(map.dependencies[1].content[0].path == "/etc/passwd");

  owner.mutable_user()->mutable_byname()->set_input(7);
  CHECK(cache_map_of(op, amd64).error().message == "invalid input index 7 in file op with 2 inputs");
}

TEST_CASE("wildcards and filters are kept apart when selectors are merged") {
  auto op = copy_op();
  auto& first = *op.mutable_file()->mutable_actions(0)->mutable_copy();
  first.set_src("/a");
  auto& second = *op.mutable_file()->add_actions();
  second.CopyFrom(op.file().actions(0));
  second.set_input(2);
  second.mutable_copy()->set_src("/a/b");
  auto& third = *op.mutable_file()->add_actions();
  third.CopyFrom(second);
  third.mutable_copy()->set_src("/a/*.c");
  third.mutable_copy()->set_allowwildcard(true);
  auto map = must(cache_map_of(op, amd64));
  REQUIRE(map.dependencies[1].content.size() == 2);
  CHECK(map.dependencies[1].content[0].path == "/a");
  CHECK(map.dependencies[1].content[1].wildcard);
}

TEST_CASE("merge, diff, build and passthrough texts follow Go's struct encoding") {
  pb::Op merge;
  merge.add_inputs();
  merge.add_inputs();
  merge.mutable_merge()->add_inputs()->set_input(0);
  merge.mutable_merge()->add_inputs()->set_input(1);
  CHECK(must(cache_map_of(merge, amd64)).op_digest ==
        sha256(R"({"Type":"buildkit.merge.v0","Merge":{"inputs":[{},{"input":1}]}})"));

  pb::Op diff;
  diff.add_inputs();
  diff.mutable_diff()->mutable_lower()->set_input(-1);
  diff.mutable_diff()->mutable_upper()->set_input(0);
  auto map = must(cache_map_of(diff, amd64));
  CHECK(map.op_digest == sha256(R"({"Type":"buildkit.diff.v0","Diff":{"lower":{"input":-1},"upper":{}}})"));
  CHECK(map.dependencies.size() == 1);

  pb::Op build;
  build.add_inputs();
  build.mutable_build()->set_builder(-1);
  (*build.mutable_build()->mutable_inputs())["buildkit.llb.definition"].set_input(0);
  (*build.mutable_build()->mutable_attrs())["b"] = "2";
  (*build.mutable_build()->mutable_attrs())["a"] = "1";
  CHECK(must(cache_map_of(build, amd64)).op_digest ==
        sha256(R"({"Type":"buildkit.build.v0","Exec":{"builder":-1,)"
               R"("inputs":{"buildkit.llb.definition":{}},"attrs":{"a":"1","b":"2"}}})"));

  pb::Op pass;
  pass.add_inputs();
  pass.mutable_passthrough()->set_id("x");
  pass.mutable_passthrough()->add_outputs(0);
  CHECK(must(cache_map_of(pass, amd64)).op_digest ==
        sha256(R"({"Type":"buildkit.passthrough.v0","Passthrough":{"id":"x","outputs":[0]}})"));
}

TEST_CASE("session keys of sources never match by definition") {
  CHECK(source_cache_map("abc").op_digest == sha256("buildkit.source.v0:abc"));
  auto local = source_cache_map("session:context:sha256:00").op_digest;
  CHECK(local.algorithm() == "random");
  CHECK(local.hex() == sha256("buildkit.source.v0:session:context:sha256:00").hex());
}

TEST_CASE("names that differ in bytes that are no UTF-8 are different keys, though JSON shows them alike") {
  auto key_of = [](const std::string& dest) {
    auto op = copy_op();
    op.mutable_file()->mutable_actions(0)->mutable_copy()->set_dest(dest);
    return must(cache_map_of(op, amd64)).op_digest;
  };
  CHECK(key_of("/\xe9") != key_of("/\xe8"));
  CHECK(key_of("/\xe9") != key_of("/\xef\xbf\xbd"));
  CHECK(key_of("/\xe9") == key_of("/\xe9"));
  pb::FileActionRm rm;
  rm.set_path("/\xe9\"<");
  CHECK(go_json(rm) == R"({"path":"/\ufffd\"\u003c"})");
  CHECK(exact_json(rm) == "{\"path\":\"/\xe9\\\"\\u003c\"}");
}

TEST_CASE("protobuf's own JSON has camel case, names of values and quoted 64-bit numbers") {
  auto op = copy_op();
  op.mutable_file()->mutable_actions(0)->mutable_copy()->set_dest("/\xe9");
  op.mutable_file()->mutable_actions(0)->set_output(0);
  pb::Op exec;
  auto* m = exec.mutable_exec()->add_mounts();
  m->set_mounttype(pb::CACHE);
  m->mutable_cacheopt()->set_id("x");
  m->set_output(-1);
  CHECK(proto_json(exec) ==
        R"({"exec":{"mounts":[{"output":"-1","mountType":"CACHE","cacheOpt":{"ID":"x"}}]}})");
  auto text = proto_json(op);
  CHECK(text.find("\"dest\":\"/\\ufffd\"") != std::string::npos);
  CHECK(text.find("\"followSymlink\":true") != std::string::npos);
  CHECK(text.find("\"timestamp\":\"-1\"") != std::string::npos);
  CHECK(text.find("\"mode\":-1") != std::string::npos);
  pb::FileActionMkFile file;
  file.set_data("abc");
  file.mutable_owner()->mutable_user()->set_byid(0);  // set, though it is the default
  CHECK(proto_json(file) == R"({"data":"YWJj","owner":{"user":{"byID":0}}})");
}

TEST_CASE("ops and file actions have their own JSON shapes") {
  pb::Op op;
  op.mutable_source()->set_identifier("local://x");
  op.mutable_platform()->set_os("linux");
  CHECK(go_json(op) == R"({"Op":{"source":{"identifier":"local://x"}},"platform":{"OS":"linux"}})");
  pb::FileAction action;
  action.mutable_symlink()->set_newpath("a");
  CHECK(go_json(action) == R"({"input":0,"secondaryInput":0,"output":0,"Action":{}})");
}

namespace {

/// What one mount's selectors become, told by the content selectors of the cache map.
std::vector<std::string> kept_of(const std::vector<std::string>& selectors) {
  pb::Op op;
  op.add_inputs();
  op.mutable_exec()->mutable_meta()->add_args("true");
  for (const auto& s : selectors) {
    auto& m = *op.mutable_exec()->add_mounts();
    m.set_dest("/m");
    m.set_selector(s);
    m.set_output(-1);
    m.set_readonly(true);
  }
  auto map = cache_map_of(op, host_platform());
  REQUIRE(map.ok());
  std::vector<std::string> out;
  for (const auto& c : map->dependencies[0].content) out.push_back(c.path);
  return out;
}

}  // namespace

TEST_CASE("selectors below others are dropped, whatever stands beside them in order") {
  CHECK(kept_of({"/a", "/a-b", "/a/b", "/a.b/c", "/a/b/c", "/ab"}) ==
        std::vector<std::string>{"/a", "/a-b", "/a.b/c", "/ab"});
  CHECK(kept_of({"/x/y", "/x/y", "/x/y/z"}) == std::vector<std::string>{"/x/y"});
  // As a comparison of all with all has it.
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::string> all;
    for (int i = 0; i < 12; ++i) {
      std::string path;
      for (auto parts = 1 + random() % 3; parts > 0; --parts)
        path += std::string("/") + "ab-."[random() % 2] + "ab-"[random() % 3];
      all.push_back(path);
    }
    std::set<std::string> wanted;
    for (const auto& p : all)
      if (std::none_of(all.begin(), all.end(),
                       [&](const auto& other) { return other != p && p.starts_with(other + "/"); }))
        wanted.insert(p);
    CHECK(kept_of(all) == std::vector<std::string>(wanted.begin(), wanted.end()));
  }
}

TEST_CASE("keying an exec with far more mounts than may be ends") {  // all compared with all, it would not
  std::vector<std::string> selectors;
  for (int i = 0; i < 200'000; ++i)
    selectors.push_back("/some/rather/long/directory/name/" + std::to_string(i));
  CHECK(kept_of(selectors).size() == selectors.size());
}
