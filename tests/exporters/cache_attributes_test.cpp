// What attributes of cache imports and exports are accepted, and what is said of the others.
#include <catch2/catch.hpp>

#include "exporters/cache/cache_exporter.hpp"
#include "exporters/cache/cache_importer.hpp"
#include "distribution/hosts.hpp"

using namespace kiln;
using namespace kiln::exporters;

namespace {

distribution::hosts hosts;
const exporter_resources resources{nullptr, &hosts};

std::string export_error(const std::string& type, const attributes& attrs) {
  auto made = make_cache_exporter(type, attrs, resources);
  return made.ok() ? "" : made.error().message;
}

std::string import_error(const std::string& type, const attributes& attrs) {
  auto made = make_cache_importer(type, attrs, resources);
  return made.ok() ? "" : made.error().message;
}

}  // namespace

TEST_CASE("cache exports are checked before anything runs, in upstream's words") {
  CHECK(export_error("nope", {}) == "unknown cache exporter: \"nope\"");
  CHECK(export_error("registry", {}) == "failed to configure registry cache exporter: missing ref");
  CHECK(export_error("registry", {{"ref", "UPPER"}})
            .starts_with("failed to configure registry cache exporter: "));
  CHECK(export_error("registry", {{"ref", "a/b"}, {"image-manifest", "maybe"}}) ==
        "failed to configure registry cache exporter: failed to parse image-manifest: strconv.ParseBool: "
        "parsing "
        "\"maybe\": invalid syntax");
  CHECK(export_error("registry", {{"ref", "a/b"}, {"registry.insecure", ""}}) ==
        "failed to configure registry cache exporter: failed to parse registry.insecure: strconv.ParseBool: "
        "parsing "
        "\"\": invalid syntax");
  CHECK(export_error("registry", {{"ref", "a/b"}, {"compression-level", "x"}}) ==
        "failed to configure registry cache exporter: non-integer value x specified for compression-level: "
        "strconv.ParseInt: parsing \"x\": invalid syntax");
  CHECK_FALSE(export_error("registry", {{"ref", "a/b"}, {"compression", "lzma"}}).empty());
  CHECK(export_error("local", {}) ==
        "failed to configure local cache exporter: local cache exporter requires dest");
  CHECK(export_error("local", {{"dest", "/d"}, {"force-compression", ""}, {"compression", "zstd"}}).empty());
  CHECK(export_error("inline", {{"mode", "max"}}).empty());
}

TEST_CASE("what upstream passes over in a cache export is passed over") {
  auto made = make_cache_exporter("registry", {{"ref", "a/b"}, {"mode", "huge"}, {"ignore-error", "perhaps"}},
                                  resources);
  REQUIRE(made.ok());
  CHECK((*made)->options().mode == cache_mode::min);
  CHECK_FALSE((*made)->options().ignore_error);
  CHECK((*made)->name() == "exporting cache to registry");
  made = make_cache_exporter("local", {{"dest", "d"}, {"mode", "max"}, {"ignore-error", "true"}}, resources);
  REQUIRE(made.ok());
  CHECK((*made)->options().mode == cache_mode::max);
  CHECK((*made)->options().ignore_error);
  CHECK((*made)->name() == "exporting cache to client directory");
  made = make_cache_exporter("inline", {{"mode", "max"}}, resources);
  REQUIRE(made.ok());
  CHECK((*made)->is_inline());
  CHECK((*made)->options().mode == cache_mode::min);
}

TEST_CASE("without OCI media types a cache is an index, and cannot be an image manifest") {
  CHECK(cache_manifest_style({})->image);
  CHECK_FALSE(cache_manifest_style({{"oci-mediatypes", "false"}})->image);
  CHECK_FALSE(cache_manifest_style({{"image-manifest", "false"}})->image);
  CHECK(cache_manifest_style({{"image-manifest", "false"}})->oci);
  auto style = cache_manifest_style({{"oci-mediatypes", "false"}, {"image-manifest", "true"}});
  REQUIRE(style.ok());
  auto made = make_cache_manifest({}, {}, *style);
  REQUIRE_FALSE(made.ok());
  CHECK(
      made.error().message ==
      "invalid configuration for remote cache, OCI mediatypes are required for image-manifest cache format");
}

TEST_CASE("cache imports are checked before anything runs, in upstream's words") {
  CHECK(import_error("nope", {}) == "unknown cache importer: nope");
  CHECK(import_error("inline", {}) == "unknown cache importer: inline");
  CHECK(import_error("registry", {}) == "failed to configure registry cache importer: missing ref");
  CHECK(import_error("local", {{"src", "/x"}}) ==
        "failed to configure local cache importer: local cache importer requires explicit digest");
  CHECK(import_error("local", {{"digest", sha256("").str()}}) ==
        "failed to configure local cache importer: local cache importer requires src");
  CHECK_FALSE(import_error("local", {{"digest", "../x"}, {"src", "/x"}}).empty());
}

TEST_CASE("equal imports have equal ids, and a registry import is called by its ref") {
  CHECK(cache_import_id("registry", {{"ref", "example.com/a:b"}, {"x", "y"}}) == "example.com/a:b");
  auto local = cache_import_id("local", {{"src", "/a"}, {"digest", "d"}});
  CHECK(local.starts_with("local:"));
  CHECK(local == cache_import_id("local", {{"digest", "d"}, {"src", "/a"}}));
  CHECK(local != cache_import_id("local", {{"digest", "d"}, {"src", "/b"}}));
  CHECK(cache_import_id("x", {{"a", "bc"}}) != cache_import_id("x", {{"ab", "c"}}));
}
