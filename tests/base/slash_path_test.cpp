#include <catch2/catch.hpp>

#include "base/slash_path.hpp"

using namespace kiln;

TEST_CASE("Paths are cleaned as Go does") {
  CHECK(clean_path("") == ".");
  CHECK(clean_path("a//b/./c/") == "a/b/c");
  CHECK(clean_path("a/../b") == "b");
  CHECK(clean_path("a/b/../../..") == "..");
  CHECK(clean_path("../../a/..") == "../..");
  CHECK(clean_path("/../a") == "/a");
  CHECK(clean_path("/a/..") == "/");
  CHECK(clean_path("/..") == "/");
  CHECK(clean_path("./") == ".");
  CHECK(clean_absolute("../x/") == "/x");
  CHECK(clean_path("/a//b/./../c/") == "/a/c");
  CHECK(clean_path("/../..") == "/");
  CHECK(clean_absolute("") == "/");
}

TEST_CASE("the base of a path is its last element") {
  CHECK(path_base("/a/b/") == "b");
  CHECK(path_base("///") == "/");
  CHECK(path_base("") == ".");
}

TEST_CASE("paths are joined and taken apart as Go's package path does") {
  CHECK(path_join("", "") == "");
  CHECK(path_join("", "a/") == "a");
  CHECK(path_join("/a", "../b") == "/b");
  CHECK(path_dir("/a/b") == "/a");
  CHECK(path_dir("a") == ".");
  CHECK(path_dir("/") == "/");
}
