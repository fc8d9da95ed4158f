#include <catch2/catch.hpp>

#include "base/time_text.hpp"
#include "exporters/attributes.hpp"
#include "exporters/exporter.hpp"
#include "exporters/image_config.hpp"

using namespace kiln;
using namespace kiln::exporters;

namespace {
digest some(char c) { return digest::trusted("sha256:" + std::string(64, c)); }
constexpr std::int64_t s = 1'000'000'000;
}  // namespace

TEST_CASE("an image config keeps unknown keys and gets the layers, history and times of what was built") {
  config_patch patch;
  patch.layers = {{"pulled from x", 100 * s}, {"RUN a && b", 200 * s + 5}};
  patch.diff_ids = {some('a'), some('b')};
  auto out = patch_image_config(
      R"({"os":"linux","architecture":"amd64","x-vendor":{"z":1,"a":2},"config":{"Cmd":["sh","-c","a && b <c>"]},)"
      R"("history":[{"created":"1970-01-01T00:01:40Z","created_by":"base"},{"created_by":"ENV x","empty_layer":true}]})",
      patch);
  REQUIRE(out.ok());
  CHECK(
      *out ==
      R"({"architecture":"amd64","config":{"Cmd":["sh","-c","a \u0026\u0026 b \u003cc\u003e"]},)"
      R"("created":"1970-01-01T00:03:20.000000005Z",)"
      R"("history":[{"created":"1970-01-01T00:01:40Z","created_by":"base"},)"
      R"({"created":"1970-01-01T00:03:20.000000005Z","created_by":"ENV x","empty_layer":true},)"
      R"({"created":"1970-01-01T00:03:20.000000005Z","created_by":"RUN a \u0026\u0026 b","comment":"buildkit.exporter.image.v0"}],)"
      R"("os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:)" +
          std::string(64, 'a') + R"(","sha256:)" + std::string(64, 'b') + R"("]},"x-vendor":{"z":1,"a":2}})");
}

TEST_CASE("documents nested without end are errors") {
  auto deep = "{\"os\":\"linux\",\"architecture\":\"amd64\",\"x\":" + std::string(100'000, '[') +
              std::string(100'000, ']') + "}";
  CHECK(patch_image_config(deep, {}).error().message ==
        "invalid image config for export: JSON nested deeper than 512 levels");
  CHECK_FALSE(platform_of_config(deep).ok());
  config_patch patch;
  patch.inline_cache = deep;
  CHECK(patch_image_config(R"({"os":"linux","architecture":"amd64"})", patch)
            .error()
            .message.find("inline cache") != std::string::npos);
}

TEST_CASE("the epoch clamps what is newer but leaves the base image's history alone") {
  config_patch patch;
  patch.layers = {{"base", 100 * s}, {"new", 900 * s}};
  patch.diff_ids = {some('a'), some('b')};
  patch.epoch = 500;
  std::string base = R"({"created":"2020-01-01T00:00:00Z","created_by":"base"})";
  patch.base_config = R"({"history":[)" + base + "]}";
  auto out = patch_image_config(
      R"({"os":"linux","architecture":"amd64","created":"2021-01-01T00:00:00Z","history":[)" + base +
          R"(,{"created":"1970-01-01T00:00:07Z","created_by":"old"}]})",
      patch);
  REQUIRE(out.ok());
  CHECK(out->find(R"("created":"1970-01-01T00:08:20Z","history":[{"created":"2020-01-01T00:00:00Z")") !=
        std::string::npos);
  CHECK(out->find(R"({"created":"1970-01-01T00:00:07Z","created_by":"old"})") != std::string::npos);
}

TEST_CASE("history with more layers than there are is made to fit") {
  config_patch patch;
  patch.layers = {{"one", 1 * s}};
  patch.diff_ids = {some('a')};
  auto out = patch_image_config(
      R"({"os":"linux","architecture":"amd64","history":[{"created_by":"a"},{"created_by":"b"}]})", patch);
  REQUIRE(out.ok());
  CHECK(out->find(R"({"created":"1970-01-01T00:00:01Z","created_by":"b","empty_layer":true})") !=
        std::string::npos);
}

TEST_CASE("configs that are no image configs are refused by name") {
  auto message = [](const char* text) { return patch_image_config(text, {}).error().message; };
  CHECK(message(R"({"architecture":"amd64"})") == "invalid image config for export: missing os");
  CHECK(message(R"({"os":"linux"})") == "invalid image config for export: missing architecture");
  CHECK(message("null") == "invalid null image config for export");
  CHECK_FALSE(patch_image_config("[]", {}).ok());
  CHECK_FALSE(patch_image_config("{", {}).ok());
  CHECK(platform_of_config(R"({"os":"linux"})").error().message ==
        "invalid image config: os and architecture must be specified together");
}

TEST_CASE("without a config the default one runs on this machine") {
  auto out = patch_image_config("", {});
  REQUIRE(out.ok());
  CHECK(
      out->find(
          R"("config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"WorkingDir":"/"})") !=
      std::string::npos);
  CHECK(out->find(R"("created":null)") != std::string::npos);
}

TEST_CASE("manifests are written with two spaces and Go's order of fields") {
  descriptor c{"application/vnd.oci.image.config.v1+json", some('c'), 2, {}, {}, {}, ""};
  descriptor l{"application/vnd.oci.image.layer.v1.tar+gzip", some('d'), 3, {{"k", "v"}}, {}, {}, ""};
  CHECK(manifest_json("application/vnd.oci.image.manifest.v1+json", c, {l}, {{"note", "a<b"}}) ==
        "{\n  \"schemaVersion\": 2,\n  \"mediaType\": \"application/vnd.oci.image.manifest.v1+json\",\n"
        "  \"config\": {\n    \"mediaType\": \"application/vnd.oci.image.config.v1+json\",\n    \"digest\": "
        "\"" +
            c.digest.str() +
            "\",\n    \"size\": 2\n  },\n  \"layers\": [\n    {\n"
            "      \"mediaType\": \"application/vnd.oci.image.layer.v1.tar+gzip\",\n      \"digest\": \"" +
            l.digest.str() +
            "\",\n      \"size\": 3,\n      \"annotations\": {\n        \"k\": \"v\"\n      }\n    }\n  ],\n"
            "  \"annotations\": {\n    \"note\": \"a\\u003cb\"\n  }\n}");
}

TEST_CASE("layer media types follow the manifest's, and foreign layers become normal unless kept") {
  CHECK(convert_layer_type("application/vnd.docker.image.rootfs.diff.tar.gzip", true, false) ==
        "application/vnd.oci.image.layer.v1.tar+gzip");
  CHECK(convert_layer_type("application/vnd.oci.image.layer.v1.tar+gzip", false, false) ==
        "application/vnd.docker.image.rootfs.diff.tar.gzip");
  CHECK(convert_layer_type("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", true, false) ==
        "application/vnd.oci.image.layer.v1.tar+gzip");
  CHECK(convert_layer_type("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", true, true) ==
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip");
  CHECK(convert_layer_type("application/x-unknown", true, true) == "application/x-unknown");
}

TEST_CASE("exporter attributes are checked before anything runs") {
  auto refuse = [](const char* type, attributes a) {
    auto e = make_exporter(type, a, 0, {});
    return e.ok() ? std::string("accepted") : e.error().message;
  };
  CHECK(refuse("registry", {}) == "exporter \"registry\" could not be found");
  CHECK(refuse("image", {{"push", "maybe"}}) ==
        "non-bool value specified for push: strconv.ParseBool: parsing \"maybe\": invalid syntax");
  CHECK(refuse("image", {{"push", ""}, {"unpack", ""}, {"whatever", "x"}}) == "accepted");
  CHECK(refuse("image", {{"oci-mediatypes", ""}}) != "accepted");
  CHECK(refuse("image", {{"compression", "lzma"}}) == "unsupported compression type lzma");
  CHECK(refuse("oci", {{"compression", "zstd"}, {"oci-mediatypes", "false"}}) == "accepted");
  CHECK(refuse("oci", {{"compression", "estargz"}, {"oci-mediatypes", "false"}}) ==
        "exporter option \"compression=estargz\" conflicts with \"oci-mediatypes=false\"");
  CHECK(refuse("oci", {{"oci-artifact", "true"}, {"oci-mediatypes", "false"}}) ==
        "exporter option \"oci-artifact=true\" conflicts with \"oci-mediatypes=false\"");
  CHECK(refuse("image", {{"compression-level", "many"}})
            .find("non-integer value many specified for compression-level") == 0);
  CHECK(refuse("image", {{"compression-level", "10"}}).find("out of range") != std::string::npos);
  CHECK(refuse("image", {{"compression-level", "22"}, {"compression", "zstd"}}) == "accepted");
  CHECK(refuse("image", {{"compression", "estargz"}}) == "accepted");
  CHECK(refuse("image", {{"source-date-epoch", "soon"}}).find("invalid source-date-epoch") == 0);
  CHECK(refuse("image", {{"source-date-epoch", ""}}) == "accepted");
  CHECK(refuse("image", {{"annotation-strange.k", "v"}}) == "unrecognized annotation type strange");
  CHECK(refuse("local", {{"mode", "move"}}).find("move") != std::string::npos);
  CHECK(refuse("local", {{"platform-split", "x"}}) == "non-bool value for platform-split: x");
  CHECK(refuse("tar", {{"platform-split", "false"}}) == "accepted");
}

TEST_CASE("annotations go to the platform they name") {
  attributes attrs{{"annotation.a", "1"},
                   {"annotation-index.b", "2"},
                   {"annotation[linux/arm64].c", "3"},
                   {"annotation-manifest-descriptor[linux/amd64].d.e", "4"},
                   {"annotations", "no"}};
  annotation_group group;
  REQUIRE(take_annotations(attrs, group).ok());
  CHECK(attrs == attributes{{"annotations", "no"}});
  auto arm = parse_platform("linux/arm64").value(), amd = parse_platform("linux/amd64").value();
  CHECK(annotations_for(group, &arm).manifest == attributes{{"a", "1"}, {"c", "3"}});
  CHECK(annotations_for(group, &amd).manifest == attributes{{"a", "1"}});
  CHECK(annotations_for(group, &amd).manifest_descriptor == attributes{{"d.e", "4"}});
  CHECK(annotations_for(group, nullptr).index == attributes{{"b", "2"}});
}
