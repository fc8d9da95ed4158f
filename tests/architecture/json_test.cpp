// JSON goes through base/json_text.hpp: bounded when it is parsed, and without exceptions when read or
// written.
#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <string>
#include <type_traits>

#include "base/json_text.hpp"
#include "source_lines.hpp"

namespace fs = std::filesystem;

namespace {

std::string read(const fs::path& file) {
  std::ifstream in{file};
  return {std::istreambuf_iterator<char>(in), {}};
}

/// Lines of the sources that match, in files that know of JSON.
std::string found(const char* pattern, const std::set<std::string>& allowed) {
  const std::regex wanted{pattern};
  std::string out;
  for (const auto& folder : kiln::architecture::product_folders)
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(KILN_SOURCE_DIR) / folder)) {
      auto extension = entry.path().extension();
      auto name = fs::relative(entry.path(), KILN_SOURCE_DIR).string();
      if ((extension != ".hpp" && extension != ".cpp") || allowed.count(name)) continue;
      auto text = read(entry.path());
      if (text.find("json") == std::string::npos) continue;
      for (std::sregex_iterator at(text.begin(), text.end(), wanted), end; at != end; ++at)
        out += name + ": " + at->str() + "\n";
    }
  return out;
}

}  // namespace

TEST_CASE("JSON is parsed in one place only, with bounds") {
  CHECK(found(R"(json\s*::\s*(parse|accept|sax_parse|from_\w+)\s*\()", {"base/json_text.cpp"}) == "");
  CHECK(found(R"(\bJson\s*::\s*parse\s*\()", {"base/json_text.cpp"}) == "");
}

TEST_CASE("JSON is written in one place only: the library's own way throws for what is no UTF-8") {
  CHECK(found(R"((\.|->)dump\()", {"base/json_text.hpp"}) == "");
}

TEST_CASE(
    "the library's header comes by base/json_text.hpp alone, where a value converts to nothing by itself") {
  CHECK(found(R"(#\s*include\s*<nlohmann[^>]*>)", {"base/json_text.hpp"}) == "");
  auto text = read(fs::path(KILN_SOURCE_DIR) / "base/json_text.hpp");
  auto off = text.find("#define JSON_USE_IMPLICIT_CONVERSIONS 0"),
       header = text.find("#include <nlohmann/json.hpp>");
  CHECK(off < header);
  CHECK_FALSE(std::is_convertible_v<nlohmann::json, std::string>);
  CHECK_FALSE(std::is_convertible_v<nlohmann::json, int>);
}

TEST_CASE(
    "members of members are reached by subscripts only in documents of our own: of a text there are none, "
    "and that throws") {
  const std::set<std::string> makers = {
      "exporters/attestation_manifest.cpp",   "exporters/provenance/predicate.cpp",
      "exporters/provenance/request_log.cpp", "frontends/dockerfile/image_config.cpp",
      "frontends/dockerfile/subrequests.cpp", "workers/cdi/apply.cpp",
      "workers/executor/oci_spec.cpp"};
  CHECK(found(R"(\w+\[("[^"]*"|\w+_key)\]\[[^;]*)", makers) == "");
}

TEST_CASE("JSON is read without the library's throwing readers") {
  // These read container configurations and profiles that they made themselves.
  const std::set<std::string> allowed = {"base/json_text.hpp", "workers/executor/seccomp.cpp",
                                         "workers/executor/executor.cpp", "workers/executor/oci_spec.cpp"};
  CHECK(found(R"((\.|->)(get|get_ref)<(?!containers_actor)[^;(]*>\([^;]*)", allowed) == "");
  CHECK(found(R"((\.|->)at\(\s*(std::string\()?"[^;]*)", allowed) == "");
  CHECK(found(R"((\.|->)get_to\()", allowed) == "");
  CHECK(found(R"(\b(?!flags\b)\w+(\.|->)value\(\s*[\w:]*\s*\(?"[^;]*)", allowed) == "");
}
