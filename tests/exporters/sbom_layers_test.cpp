// SBOMs say in which layer of the exported image each file is.
#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>

#include "exporters/sbom_layers.hpp"
#include "distribution/client.hpp"
#include "tests/exporters/cache_fixture.hpp"

using namespace kiln;
using namespace kiln::exporters;
using namespace kiln::exporters::testing;
using json = nlohmann::ordered_json;

namespace {

std::function<result<std::optional<digest>>(const std::string&)> only(const std::string& path,
                                                                      const digest& d) {
  return [=](const std::string& asked) -> result<std::optional<digest>> {
    return asked == path ? std::optional(d) : std::nullopt;
  };
}

/// An image export of `ref` with one attestation: the JSON of its statement.
json exported_statement(test_daemon& daemon, const store::ref& ref, const std::string& document,
                        const std::string& path) {
  attestation sbom;
  sbom.path = path;
  sbom.predicate_type = spdx_predicate;
  sbom.metadata["sbom-core"] = "result";
  export_input input;
  auto file = path.substr(1);
  input.refs.push_back(
      {"", host_platform(), ref, {{sbom, layer_of(*daemon.refs, {}, {{file, document.c_str()}})}}});
  auto exporter = must(make_exporter("image", {}, 3, daemon.resources));
  auto response = must(exporter->run(input, {})).response;
  auto read = [&](const std::string& d) {
    return json::parse(must(daemon.refs->blobs().read_all(digest::trusted(d), 1 << 20)));
  };
  auto index = read(response["containerimage.digest"]);
  auto manifest = read(text_value(index["manifests"][1]["digest"]));
  return read(text_value(manifest["layers"][0]["digest"]));
}

}  // namespace

TEST_CASE("files of an SPDX document get the layer they are in, other documents stay as they are") {
  auto layer = sha256("layer");
  auto document = json::parse(R"({"spdxVersion":"SPDX-2.3","creationInfo":{"creators":["Tool: scan"]},
    "files":[{"fileName":"/a"},{"fileName":"/b"},{"fileName":"/a","comment":"mine"},null],
    "packages":[{"name":"p","files":[{"fileName":"/a"}]}, 7]})");
  REQUIRE(add_layers(document, only("/a", layer)).ok());
  CHECK(document["files"][0]["comment"] == "layerID: " + layer.str());
  CHECK_FALSE(document["files"][1].contains("comment"));
  CHECK(document["files"][2]["comment"] == "mine");
  CHECK(document["packages"][0]["files"][0]["comment"] == "layerID: " + layer.str());
  REQUIRE(document["creationInfo"]["creators"].size() == 2);
  CHECK(document["creationInfo"]["creators"][1].get<std::string>().starts_with("Tool: buildkit-"));

  for (auto text : {R"({"files":[{"fileName":"/a"}]})",
                    R"({"spdxVersion":"SPDX-9","files":[{"fileName":"/a"}]})", R"(["SPDX-2.3"])", "null"}) {
    auto other = json::parse(text);
    REQUIRE(add_layers(other, only("/a", layer)).ok());
    CHECK(other == json::parse(text));
  }
  auto failing = json::parse(R"({"spdxVersion":"SPDX-2.3","files":[{"fileName":"/a"}]})");
  CHECK(add_layers(failing,
                   [](const std::string&) -> result<std::optional<digest>> {
                     return make_error(errc::data_loss, "gone");
                   })
            .error()
            .message == "gone");
}

TEST_CASE("a file is in the uppermost layer that writes it, and a removed one where it was made") {
  test_daemon d;
  auto base = layer_of(*d.refs, {}, {{"etc/a", "1"}, {"etc/b", "1"}, {"gone", "1"}});
  auto changing = must(d.refs->create(base, {}, {}));
  {
    auto at = must(store::mounted::make(*d.refs, must(d.refs->files().mounts(changing))));
    std::ofstream(at.path() / "etc/b") << "2";
    std::ofstream(at.path() / "new") << "2";
    std::filesystem::remove(at.path() / "gone");
  }
  auto top = must(d.refs->commit(std::move(changing)));
  layer_exporter exporter(*d.refs, &d.hosts, {});
  std::vector<store::ref> refs{top};
  auto layers = must(exporter.run(refs, {})).front();
  REQUIRE(layers.size() == 2);
  layer_files files(exporter, layers);
  CHECK(must(files.find("/new", {})) == layers[1].blob.blob.digest);
  CHECK(must(files.find("etc/./b", {})) == layers[1].blob.blob.digest);
  CHECK(must(files.find("/etc/a", {})) == layers[0].blob.blob.digest);
  CHECK(must(files.find("/gone", {})) == layers[0].blob.blob.digest);
  CHECK_FALSE(must(files.find("/nowhere", {})));
}

TEST_CASE("an exported image's own SBOM tells of layers, what else is SPDX does not") {
  test_daemon d;
  auto ref = layer_of(*d.refs, {}, {{"foo", ""}});
  const std::string document =
      R"({"spdxVersion":"SPDX-2.2","creationInfo":null,"files":[{"fileName":"/foo"},{"fileName":"/bar"}]})";
  auto own = exported_statement(d, ref, document, "/result.spdx");
  CHECK(own["predicateType"] == spdx_predicate);
  CHECK(own["predicate"]["files"][0]["comment"].get<std::string>().starts_with("layerID: sha256:"));
  CHECK_FALSE(own["predicate"]["files"][1].contains("comment"));
  auto extra = exported_statement(d, ref, document, "/result-context.spdx");
  CHECK(extra["predicate"] == json::parse(document));
}
