// JSON goes through messages/json_text.hpp: bounded when it is parsed, and without exceptions when read or written.
#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <string>

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
  for (auto folder : {"messages", "configs", "solver", "store", "registry", "frontends", "workers", "exporters",
                      "actors", "supervisors", "gateway", "client", "apps"})
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
  CHECK(found(R"(json\s*::\s*(parse|accept|sax_parse|from_\w+)\s*\()", {"messages/json_text.cpp"}) == "");
  CHECK(found(R"(\bJson\s*::\s*parse\s*\()", {"messages/json_text.cpp"}) == "");
}

TEST_CASE("JSON is written in one place only: the library's own way throws for what is no UTF-8") {
  CHECK(found(R"((\.|->)dump\()", {"messages/json_text.hpp"}) == "");
}

TEST_CASE("JSON is read without the library's throwing readers") {
  // These read container configurations and profiles that they made themselves.
  const std::set<std::string> allowed = {"messages/json_text.hpp", "workers/executor/seccomp.cpp",
                                         "workers/executor/executor.cpp", "workers/executor/oci_spec.cpp"};
  CHECK(found(R"((\.|->)(get|get_ref)<(std::string|std::int|std::uint|int|unsigned|bool|double|const|std::map|std::vector)[^;]*)",
              allowed) == "");
  CHECK(found(R"((\.|->)get_to\()", allowed) == "");
  CHECK(found(R"(\b(j|json|document|parsed|config|e|i|h|entry|item|request|value|rule|profile|user)(\.|->)value\(\s*[\w:]*\s*\(?"[^;]*)",
              allowed) == "");
}
