#include <catch2/catch.hpp>

#include "base/digest.hpp"
#include "exporters/provenance/predicate.hpp"
#include "exporters/provenance/purl.hpp"
#include "messages/proxy_capture.hpp"

using namespace kiln;
using namespace kiln::exporters;
using json = nlohmann::ordered_json;

namespace {

std::string bytes_of(const pb::Op& op) { return op.SerializeAsString(); }

/// A source, a command on it, and the end.
pb::Definition small_definition() {
  pb::Definition out;
  pb::Op source;
  source.mutable_source()->set_identifier("docker-image://docker.io/library/busybox:latest");
  out.add_def(bytes_of(source));
  pb::Op exec;
  exec.mutable_exec()->mutable_meta()->add_args("true");
  exec.add_inputs()->set_digest(sha256(out.def(0)).str());
  out.add_def(bytes_of(exec));
  pb::Op end;
  end.add_inputs()->set_digest(sha256(out.def(1)).str());
  out.add_def(bytes_of(end));
  return out;
}

build_facts some_facts() {
  build_facts f;
  f.invocation_id = "id1";
  f.started_ns = 1'700'000'000'000'000'000;
  f.finished_ns = 1'700'000'001'000'000'000;
  f.builder_platform = "linux/amd64";
  f.dockerfile_version = "1.2.3";
  return f;
}

request_log::provenance_of_ref dockerfile_provenance() {
  request_log::provenance_of_ref p;
  p.what.add_image(
      {"docker.io/library/busybox:latest", platform{"linux", "amd64", "", "", {}}, "sha256:abc"});
  p.what.add_image({"docker.io/library/busybox:latest@sha256:" + std::string(64, 'a'),
                    platform{"linux", "amd64", "", "", {}}, "sha256:abc"});
  p.what.add_local("context");
  p.what.network_access = true;
  p.request = {{"frontend", "dockerfile.v0"},
               {"args",
                {{"build-arg:FOO", "bar"},
                 {"filename", "Dockerfile"},
                 {"vcs:source", "https://user:secret@example.invalid/repo.git"},
                 {"vcs:revision", "123"}}}};
  return p;
}

template <class T>
T must(result<T> r) {
  if (!r.ok()) FAIL(r.error().message);
  return *std::move(r);
}

}  // namespace

TEST_CASE("image names become package URLs") {
  platform amd64{"linux", "amd64", "", "", {}};
  CHECK(must(image_purl("docker", "busybox", amd64)) == "pkg:docker/busybox@latest?platform=linux%2Famd64");
  CHECK(must(image_purl("docker", "ghcr.io/a/b:1@sha256:" + std::string(64, 'a'), {})) ==
        "pkg:docker/ghcr.io/a/b@1?digest=sha256:" + std::string(64, 'a'));
  CHECK(must(image_purl("oci", "localhost:5000/x", {}, {{"ref_type", "blob"}})) ==
        "pkg:oci/localhost%3A5000/x@latest?ref_type=blob");
  CHECK_FALSE(image_purl("docker", "Not A Name", {}).ok());
}

TEST_CASE("credentials in URLs are masked") {
  CHECK(redact_credentials("https://user:pass@host/x@y") == "https://xxxxx:xxxxx@host/x@y");
  CHECK(redact_credentials("https://user@host/") == "https://xxxxx@host/");
  CHECK(redact_credentials("https://host/a@b") == "https://host/a@b");
  CHECK(redact_credentials("git@host:repo") == "git@host:repo");
}

TEST_CASE("a predicate of mode max tells steps, sources and the request") {
  auto predicate = must(make_predicate({}, dockerfile_provenance(), small_definition(), some_facts()));
  auto p = json::parse(predicate.text);
  const auto& build = p["buildDefinition"];
  REQUIRE(build["resolvedDependencies"].size() == 1);  // by tag, not by digest once more
  CHECK(build["resolvedDependencies"][0]["uri"] == "pkg:docker/busybox@latest?platform=linux%2Famd64");
  CHECK(build["externalParameters"]["configSource"]["path"] == "Dockerfile");
  CHECK(build["externalParameters"]["request"]["args"] == json{{"build-arg:FOO", "bar"}});
  CHECK(build["externalParameters"]["request"]["locals"][0]["name"] == "context");
  CHECK(build["internalParameters"]["buildConfig"]["llbDefinition"].size() == 3);
  CHECK(build["internalParameters"]["dockerfileVersion"] == "1.2.3");
  const auto& metadata = p["runDetails"]["metadata"];
  CHECK(metadata["buildkit_metadata"]["vcs"]["source"] == "https://xxxxx:xxxxx@example.invalid/repo.git");
  CHECK(metadata["buildkit_completeness"]["request"] == true);
  CHECK(metadata["buildkit_completeness"]["resolvedDependencies"] == false);
  CHECK_FALSE(metadata.contains("buildkit_hermetic"));
  CHECK(predicate.steps.size() == 3);

  auto layered = json::parse(with_layers(predicate.text, json{{"step0:0", json::array()}}));
  CHECK(layered["runDetails"]["metadata"]["buildkit_metadata"]["layers"].contains("step0:0"));
}

TEST_CASE("what steps and the machine used is told where that is asked for") {
  auto facts = some_facts();
  auto plain = json::parse(must(make_predicate({}, dockerfile_provenance(), small_definition(), facts)).text);
  auto definition = small_definition();
  for (const auto& bytes : definition.def())
    facts.usage[sha256(bytes).str()] = R"({"samples":[{"pidsStat":{}}]})";
  facts.machine_usage.push_back({{"timestamp", "now"}});
  auto unasked =
      json::parse(must(make_predicate({}, dockerfile_provenance(), small_definition(), facts)).text);
  CHECK(unasked == plain);
  auto options = must(parse_provenance_options({{"capture-usage", "true"}, {"mode", "max"}}));
  auto p =
      json::parse(must(make_predicate(options, dockerfile_provenance(), small_definition(), facts)).text);
  CHECK(p["buildDefinition"]["internalParameters"]["buildConfig"]["llbDefinition"][0]["resourceUsage"]
         ["samples"]
             .size() == 1);
  CHECK(p["runDetails"]["metadata"]["buildkit_metadata"]["sysUsage"][0]["timestamp"] == "now");
  CHECK_FALSE(must(parse_provenance_options({{"capture-usage", "perhaps"}})).capture_usage);
}

TEST_CASE("mode min keeps build arguments to itself") {
  provenance_options options;
  options.max = false;
  auto p = json::parse(
      must(make_predicate(options, dockerfile_provenance(), small_definition(), some_facts())).text);
  CHECK_FALSE(p["buildDefinition"]["externalParameters"]["request"].contains("args"));
  CHECK_FALSE(p["buildDefinition"]["internalParameters"].contains("buildConfig"));
  CHECK(p["runDetails"]["metadata"]["buildkit_completeness"]["request"] == false);
}

TEST_CASE("version 0.2 says the same in its own words") {
  provenance_options options;
  options.version_02 = true;
  auto p = json::parse(
      must(make_predicate(options, dockerfile_provenance(), small_definition(), some_facts())).text);
  CHECK(p["buildType"] == "https://mobyproject.org/buildkit@v1");
  CHECK(p["invocation"]["configSource"]["entryPoint"] == "Dockerfile");
  CHECK(p["invocation"]["environment"]["platform"] == "linux/amd64");
  CHECK(p["metadata"]["completeness"]["environment"] == true);
  CHECK(p["materials"].size() == 1);
}

TEST_CASE("complete materials that are not complete fail the build") {
  provenance_options options;
  options.complete_materials = true;
  auto p = make_predicate(options, dockerfile_provenance(), small_definition(), some_facts());
  REQUIRE_FALSE(p.ok());
  CHECK(p.error().message.find("context") != std::string::npos);
}

TEST_CASE("what steps fetched through a proxy are materials, and what is none of them is told") {
  proxy_capture fetched;
  fetched.materials = {{"https://a.test/x", "sha256:" + std::string(64, 'a')}};
  auto captured = [&](const std::string& text) {
    request_log::provenance_of_ref p;
    p.what.network_access = true;
    p.what.add_proxied("sha256:op", "wget x", text);
    return p;
  };
  provenance_options options;
  options.complete_materials = true;
  auto good = json::parse(
      must(make_predicate(options, captured(to_text(fetched)), small_definition(), some_facts())).text);
  const auto& materials = good["buildDefinition"]["resolvedDependencies"];
  REQUIRE(materials.size() == 1);
  CHECK(materials[0]["uri"] == "https://a.test/x");
  CHECK(materials[0]["digest"]["sha256"] == std::string(64, 'a'));
  const auto& metadata = good["runDetails"]["metadata"];
  CHECK(metadata["buildkit_metadata"]["network"] == json{{"mode", "proxy"}});
  CHECK(metadata["buildkit_completeness"]["resolvedDependencies"] == true);
  CHECK_FALSE(metadata.contains("buildkit_hermetic"));

  fetched.gaps = {{"POST", "https://a.test/y", "method_not_materializable"}};
  auto bad = make_predicate(options, captured(to_text(fetched)), small_definition(), some_facts());
  REQUIRE_FALSE(bad.ok());
  CHECK(bad.error().message.find(
            "\n  - wget x\n    method: POST\n    url: https://a.test/y\n    reason: method") !=
        std::string::npos);
  REQUIRE(bad.error().details.size() == 1);
  CHECK(bad.error().details[0].type_url ==
        "github.com/moby/buildkit/errdefs.ProvenanceMaterialsIncomplete+json");
  auto detail = json::parse(bad.error().details[0].value)["incomplete"];
  REQUIRE(detail.size() == 1);
  CHECK(detail[0]["op"] == "sha256:op");
  CHECK(detail[0]["uri"] == "https://a.test/y");
  CHECK(detail[0]["reason"] == "method_not_materializable");

  options.complete_materials = false;
  auto unknown = json::parse(must(make_predicate(options, captured(""), small_definition(), some_facts()))
                                 .text)["runDetails"]["metadata"];
  CHECK(unknown["buildkit_completeness"]["resolvedDependencies"] == false);
  CHECK(unknown["buildkit_metadata"]["network"]["proxy"]["incomplete"][0]["reason"] == "not_recorded");
}

TEST_CASE("attributes of provenance are read and unknown values refused") {
  auto options = must(parse_provenance_options({{"mode", "min"}, {"version", "v0.2"}}));
  CHECK_FALSE(options.max);
  CHECK(options.version_02);
  CHECK_FALSE(parse_provenance_options({{"mode", "medium"}}).ok());
  CHECK_FALSE(parse_provenance_options({{"version", "v3"}}).ok());
}

TEST_CASE("a ref belongs to the innermost frontend that made it") {
  auto origins = std::make_shared<definition_origins>();
  request_log log(origins);
  log.begin({"", {{"root-request", "x"}}, {}});
  int outer = log.open(0, {"dockerfile.v0", {{"target", "final"}}, {}});
  log.add_ref(outer, "r1");
  log.add_ref(0, "r2");
  auto nothing = [](const std::string&) { return std::optional<capture>(capture{}); };
  auto p = log.provenance("r1", "", {}, {"r1"}, nothing);
  CHECK(p.request["frontend"] == "dockerfile.v0");
  CHECK(p.request["args"]["target"] == "final");
  CHECK(p.request["root"]["request"]["args"]["root-request"] == "x");
  CHECK(log.provenance("r2", "", {}, {"r2"}, nothing).request.empty());

  SECTION("and what it made is known to other builds while it runs") {
    auto definition = small_definition();
    log.publish("r1", definition, {});
    auto found = origins->find(definition);
    REQUIRE(found);
    CHECK((*found)["request"]["args"]["target"] == "final");
    CHECK_FALSE((*found)["request"].contains("root"));
    { request_log other(origins); }
    CHECK(origins->find(definition));
  }
}

TEST_CASE("images of other platforms do not count for a platform") {
  request_log log;
  log.begin({"", {}, {}});
  int f = log.open(0, {"dockerfile.v0", {}, {}});
  log.add_ref(f, "r1");
  platform amd64{"linux", "amd64", "", "", {}}, arm64{"linux", "arm64", "", "", {}};
  log.add_image(f, {"docker.io/library/busybox:latest", amd64, "sha256:a"});
  log.add_image(f, {"docker.io/library/busybox:latest", arm64, "sha256:b"});
  auto p = log.provenance("r1", "linux/arm64", {{"linux/amd64", amd64}, {"linux/arm64", arm64}}, {"r1"},
                          [](const std::string&) { return std::optional<capture>(capture{}); });
  REQUIRE(p.what.images.size() == 1);
  CHECK(p.what.images[0].digest == "sha256:b");
}
