// Lines of the sources that look like something, for rules about what may stand where.
#pragma once

#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <string>

namespace kiln::architecture {

/// The daemon's and the client's.
inline const std::set<std::string> product_folders = {
    "base",    "messages",  "configs", "solver",      "store",   "filesync", "distribution", "frontends",
    "workers", "exporters", "actors",  "supervisors", "gateway", "node",     "client",       "apps"};

/// "file:line: text" of each that matches together with the line before it, for a call may go on there; but
/// in files that are `allowed` to.
inline std::set<std::string> lines_with(const std::regex& pattern, const std::set<std::string>& folders,
                                        const std::set<std::string>& allowed) {
  namespace fs = std::filesystem;
  std::set<std::string> out;
  for (const auto& folder : folders)
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(KILN_SOURCE_DIR) / folder)) {
      auto extension = entry.path().extension();
      auto name = fs::relative(entry.path(), KILN_SOURCE_DIR).string();
      if ((extension != ".hpp" && extension != ".cpp") || allowed.contains(name)) continue;
      std::ifstream in{entry.path()};
      std::string before, text;
      for (int line = 1; std::getline(in, text); before = text, ++line)
        if (std::regex_search(before + " " + text, pattern))
          out.insert(name + ":" + std::to_string(line) + ": " + text);
    }
  return out;
}

}  // namespace kiln::architecture
