// The dependency arrows of docs/architecture.md, enforced by reading the includes.
#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <string>

namespace fs = std::filesystem;

namespace {

// folder → folders it may include, besides itself. An arrow only goes downwards.
const std::map<std::string, std::set<std::string>>& arrows() {
  static const std::map<std::string, std::set<std::string>> all = {
      {"base", {}},
      {"messages", {"base"}},
      {"configs", {"messages", "base"}},
      {"solver", {"configs", "messages", "base"}},
      {"store", {"solver", "configs", "messages", "base"}},
      {"filesync", {"store", "solver", "configs", "messages", "base"}},
      {"distribution", {"store", "solver", "configs", "messages", "base"}},
      {"frontends", {"store", "solver", "configs", "messages", "base"}},
      {"workers", {"filesync", "distribution", "store", "solver", "configs", "messages", "base"}},
      {"exporters", {"filesync", "distribution", "store", "solver", "configs", "messages", "base"}},
      {"actors",
       {"frontends", "exporters", "workers", "filesync", "distribution", "store", "solver", "configs",
        "messages", "base"}},
      {"supervisors",
       {"actors", "frontends", "exporters", "workers", "filesync", "distribution", "store", "solver",
        "configs", "messages", "base"}},
      {"gateway",
       {"supervisors", "actors", "frontends", "exporters", "workers", "filesync", "distribution", "store",
        "solver", "configs", "messages", "base"}},
      {"node",
       {"gateway", "supervisors", "actors", "frontends", "exporters", "workers", "filesync", "distribution",
        "store", "solver", "configs", "messages", "base"}},
      {"client", {"filesync", "distribution", "store", "solver", "configs", "messages", "base"}},
  };
  return all;
}

struct include_line {
  fs::path file;
  int line;
  std::string target;
};

std::vector<include_line> includes_of(const std::string& folder) {
  static const std::regex pattern{R"(^\s*#\s*include\s*[<"]([^>"]+)[>"])"};
  std::vector<include_line> found;
  fs::path root = fs::path(KILN_SOURCE_DIR) / folder;
  if (!fs::exists(root)) return found;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    auto extension = entry.path().extension();
    if (extension != ".hpp" && extension != ".cpp") continue;
    std::ifstream in{entry.path()};
    std::string text;
    std::smatch match;
    for (int line = 1; std::getline(in, text); ++line)
      if (std::regex_search(text, match, pattern)) found.push_back({entry.path(), line, match[1]});
  }
  return found;
}

std::string describe(const include_line& i) {
  return i.file.string() + ":" + std::to_string(i.line) + " includes " + i.target;
}

}  // namespace

TEST_CASE("includes only go down the arrows of the map") {
  for (const auto& [folder, allowed] : arrows())
    for (const auto& i : includes_of(folder)) {
      auto target = i.target.substr(0, i.target.find('/'));
      if (target == i.target || !arrows().count(target) || target == folder) continue;
      INFO(describe(i));
      CHECK(allowed.count(target) == 1);
    }
}

TEST_CASE("base knows nothing of what is built with it: no message, no generated code") {
  for (const auto& i : includes_of("base")) {
    INFO(describe(i));
    CHECK(i.target.find(".pb.h") == std::string::npos);
    CHECK((i.target.find('/') == std::string::npos || !fs::exists(fs::path(KILN_SOURCE_DIR) / i.target) ||
           i.target.rfind("base/", 0) == 0));
  }
}

TEST_CASE("pure folders know neither CAF nor gRPC") {
  for (auto folder : {"base", "configs", "solver", "store", "filesync", "distribution", "frontends",
                      "workers", "exporters"})
    for (const auto& i : includes_of(folder)) {
      INFO(describe(i));
      CHECK(i.target.rfind("caf/", 0) != 0);
      CHECK(i.target.rfind("grpc", 0) != 0);
      CHECK(i.target.find(".grpc.pb.h") == std::string::npos);
    }
}

TEST_CASE("gRPC lives in gateway and client only, and CAF in messages only behind actor_ headers") {
  for (auto folder : {"messages", "actors", "supervisors"})
    for (const auto& i : includes_of(folder)) {
      INFO(describe(i));
      CHECK(i.target.rfind("grpc", 0) != 0);
    }
  for (const auto& i : includes_of("messages")) {
    if (i.target.rfind("caf/", 0) != 0) continue;
    auto name = i.file.filename().string();
    INFO(describe(i));
    CHECK((name.rfind("actor_", 0) == 0 || name == "proto_inspect.hpp"));
  }
}
