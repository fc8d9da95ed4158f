// A newcomer finds the way: every folder says what it is for and what its files are, no file grows past
// reading, and all of it looks alike. Each rule is tried on a planted violation too.
#include <catch2/catch.hpp>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>

#include "source_lines.hpp"
#include "tests/support/temp_dir.hpp"

namespace fs = std::filesystem;

namespace {

constexpr int lines_max = 600;

std::string text_of(const fs::path& file) {
  std::ostringstream out;
  out << std::ifstream(file).rdbuf();
  return out.str();
}

bool is_source(const fs::path& file) { return file.extension() == ".hpp" || file.extension() == ".cpp"; }

std::set<fs::path> sources(const fs::path& root) {
  std::set<fs::path> out;
  for (const auto& folder : kiln::architecture::product_folders) {
    if (!fs::exists(root / folder)) continue;
    for (const auto& entry : fs::recursive_directory_iterator(root / folder))
      if (is_source(entry.path())) out.insert(entry.path());
  }
  return out;
}

/// "folder lacks …" for every file that its folder's README does not name. Folders of one or two mains need
/// none.
std::set<std::string> unexplained(const fs::path& root) {
  std::set<std::string> out;
  for (const auto& file : sources(root)) {
    auto folder = fs::relative(file.parent_path(), root).string();
    if (folder == "apps" || folder == "messages/proto") continue;
    auto name = file.stem().string();
    if (text_of(file.parent_path() / "README.md").find("`" + name + "`") == std::string::npos)
      out.insert(folder + "/README.md lacks `" + name + "`");
  }
  return out;
}

std::set<std::string> too_long(const fs::path& root) {
  std::set<std::string> out;
  for (const auto& file : sources(root)) {
    auto text = text_of(file);
    auto lines = std::count(text.begin(), text.end(), '\n');
    if (lines > lines_max) out.insert(fs::relative(file, root).string() + ": " + std::to_string(lines));
  }
  return out;
}

/// Specifications of others that comments may name by their files.
const std::set<std::string> specifications = {
    "SPEC.md",     "config.md",           "descriptor.md",  "image-index.md", "layer.md",
    "manifest.md", "slsa-definitions.md", "media-types.md", "oid-info.md",    "estargz.md"};

/// "file: what" for every comment that names a page nobody who has the repository can open, or a number of
/// some list of somebody's.
std::set<std::string> dead_citations(const fs::path& root) {
  std::set<std::string> pages = specifications, out;
  for (auto entry = fs::recursive_directory_iterator(root); entry != fs::end(entry); ++entry) {
    if (entry->path().filename().string().starts_with("build") && entry.depth() == 0)
      entry.disable_recursion_pending();
    else if (entry->path().extension() == ".md") pages.insert(entry->path().filename().string());
  }
  static const std::regex page(R"([\w-]+\.md\b)"), number(R"(\b(issue|row|audit) #?\d+)");
  for (const auto& file : sources(root)) {
    std::istringstream in(text_of(file));
    for (std::string line; std::getline(in, line);) {
      auto comment = line.find("//");
      if (comment == line.npos) continue;
      line.erase(0, comment);
      std::smatch found;
      if (std::regex_search(line, found, number))
        out.insert(fs::relative(file, root).string() + ": " + found.str());
      for (; std::regex_search(line, found, page); line = found.suffix())
        if (!pages.contains(found.str())) out.insert(fs::relative(file, root).string() + ": " + found.str());
    }
  }
  return out;
}

}  // namespace

TEST_CASE("comments cite nothing that is not in the repository") {
  for (const auto& line : dead_citations(KILN_SOURCE_DIR)) {
    INFO(line);
    CHECK(false);
  }
  kiln::test::temp_dir tree;
  kiln::test::write_file(tree.path() / "docs/wire.md", "# Wire\n");
  kiln::test::write_file(tree.path() / "base/text.hpp",
                         "// Source: wire.md section 1; features.md D2.\nint x;  // issue 8\n");
  CHECK(dead_citations(tree.path()) ==
        std::set<std::string>{"base/text.hpp: features.md", "base/text.hpp: issue 8"});
}

TEST_CASE("every folder's README names every file in it") {
  for (const auto& line : unexplained(KILN_SOURCE_DIR)) {
    INFO(line);
    CHECK(false);
  }
  kiln::test::temp_dir tree;
  kiln::test::write_file(tree.path() / "solver/new_thing.cpp", "int x;\n");
  kiln::test::write_file(tree.path() / "solver/README.md", "| `graph` | a graph |\n");
  CHECK(unexplained(tree.path()) == std::set<std::string>{"solver/README.md lacks `new_thing`"});
}

TEST_CASE("no source is longer than one reads") {
  for (const auto& line : too_long(KILN_SOURCE_DIR)) {
    INFO(line);
    CHECK(false);
  }
  kiln::test::temp_dir tree;
  kiln::test::write_file(tree.path() / "solver/long.cpp", std::string(lines_max + 1, '\n'));
  CHECK(too_long(tree.path()) == std::set<std::string>{"solver/long.cpp: " + std::to_string(lines_max + 1)});
}

TEST_CASE("all sources are formatted by .clang-format") {
  if (std::system("command -v clang-format >/dev/null 2>&1") != 0) {
    WARN("clang-format is not installed: not checked");
    return;
  }
  const std::string check = "xargs -r clang-format --dry-run -Werror";
  CHECK(
      std::system(("cd '" KILN_SOURCE_DIR
                   "' && find . -path './build*' -prune -o '(' -name '*.cpp' -o -name '*.hpp' ')' -print | " +
                   check)
                      .c_str()) == 0);
  kiln::test::temp_dir tree;
  fs::copy_file(fs::path(KILN_SOURCE_DIR) / ".clang-format", tree.path() / ".clang-format");
  kiln::test::write_file(tree.path() / "bad.cpp", "int   x ;\n");
  CHECK(std::system(
            ("cd '" + tree.path().string() + "' && echo bad.cpp | " + check + " 2>/dev/null").c_str()) != 0);
}
