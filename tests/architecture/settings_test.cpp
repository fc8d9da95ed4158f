// A setting that is read is a setting that does something: whatever the config file, the flags of the daemon
// and those of the client are read into is looked at by somebody else.
#include <catch2/catch.hpp>

#include <fstream>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "source_lines.hpp"

namespace {

using kiln::architecture::lines_with;

/// The members of the structs in a header.
std::set<std::string> members_of(const std::string& header) {
  static const std::regex member{R"(^  (?:[a-z_:]+(?:<[^;]*>)?) (\w+)(?: = [^;]*|\{.*\})?;)"};
  std::set<std::string> out;
  std::ifstream in(std::string(KILN_SOURCE_DIR) + "/" + header);
  std::smatch found;
  for (std::string line; std::getline(in, line);)
    if (std::regex_search(line, found, member)) out.insert(found[1]);
  return out;
}

std::set<std::string> unused(const std::set<std::string>& members, const std::set<std::string>& folders,
                             const std::set<std::string>& readers) {
  std::set<std::string> out;
  for (const auto& name : members)
    if (lines_with(std::regex("(\\.|->)" + name + "\\b"), folders, readers).empty()) out.insert(name);
  return out;
}

}  // namespace

TEST_CASE("no setting is read and ignored") {
  auto daemon = members_of("configs/daemon_config.hpp");
  CHECK(daemon.size() > 60);
  CHECK(daemon.contains("cni_pool_size"));
  CHECK(unused(daemon, {"configs", "node", "distribution", "exporters"}, {"configs/daemon_settings.hpp"})
            .empty());

  auto client = members_of("client/flags/flags.hpp");
  CHECK(client.size() > 60);
  CHECK(unused(client, {"client"}, {"client/flags/command_line.cpp"}).empty());

  CHECK(unused({"nobody_asked_for"}, {"configs", "node"}, {}).size() == 1);
}
