// Pages name files, and those that move take the pages along.
#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>
#include <regex>
#include <set>
#include <sstream>
#include <string>

namespace fs = std::filesystem;

namespace {

const fs::path root = KILN_SOURCE_DIR;

std::string text_of(const fs::path& page) {
  std::ostringstream out;
  out << std::ifstream(page).rdbuf();
  return out.str();
}

/// Whether there is such a file or folder, or files that begin so: `store/blobs/holds` is
/// store/blobs/holds.hpp.
bool exists(const std::string& name) {
  auto path = root / name;
  if (fs::exists(path)) return true;
  if (!fs::is_directory(path.parent_path())) return false;
  for (const auto& entry : fs::directory_iterator(path.parent_path())) {
    auto file = entry.path().filename().string();
    if (file.starts_with(path.filename().string()) &&
        std::string("._").find(file[path.filename().string().size()]) != std::string::npos)
      return true;
  }
  return false;
}

/// What a text names of this repository: `folder/…` in backticks, of a folder there is.
std::vector<std::string> names_in(const std::string& text) {
  static const std::regex name{R"(`([a-z_]+(?:/[a-z0-9_]+)+(?:\.[a-z]+)?)`)"};
  std::vector<std::string> out;
  for (std::sregex_iterator at(text.begin(), text.end(), name), end; at != end; ++at) {
    auto found = (*at)[1].str();
    if (fs::is_directory(root / found.substr(0, found.find('/')))) out.push_back(found);
  }
  return out;
}

}  // namespace

TEST_CASE("files that pages name are there") {
  std::size_t named = 0;
  for (const auto& page : fs::recursive_directory_iterator(root)) {
    auto where = fs::relative(page.path(), root).string();
    if (page.path().extension() != ".md" || where.starts_with("build") || where == "CHANGELOG.md") continue;
    for (const auto& name : names_in(text_of(page.path()))) {
      INFO(where << " names " << name);
      CHECK(exists(name));
      ++named;
    }
  }
  CHECK(named > 50);
  CHECK_FALSE(exists("actors/nothing"));
  CHECK(exists("store/blobs/holds"));
}

TEST_CASE("a byte's way is at most 25 files, each named once") {
  auto names = names_in(text_of(root / "docs/bytes-way.md"));
  CHECK(names.size() <= 26);  // and one that another leans on
  CHECK(std::set<std::string>(names.begin(), names.end()).size() == names.size());
}
