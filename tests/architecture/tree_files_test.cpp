// How code may touch files in trees that builds have written, enforced by reading it.
#include <catch2/catch.hpp>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <sstream>
#include <string>

namespace fs = std::filesystem;

namespace {

/// Calls `use` with each call of a function in our sources, "name(arguments)", and where it is.
void for_each_call(const std::set<std::string>& folders, const std::string& name,
                   const std::function<void(const std::string& call, const std::string& where)>& use) {
  for (const auto& folder : folders)
    for (const auto& entry : fs::recursive_directory_iterator(fs::path(KILN_SOURCE_DIR) / folder)) {
      if (entry.path().extension() != ".cpp") continue;
      std::ifstream in{entry.path()};
      std::stringstream buffer;
      buffer << in.rdbuf();
      const auto text = buffer.str();
      for (auto at = text.find(name + "("); at != std::string::npos; at = text.find(name + "(", at + 1)) {
        auto end = at + name.size();
        for (int depth = 0; end < text.size(); ++end) {
          depth += text[end] == '(' ? 1 : text[end] == ')' ? -1 : 0;
          if (depth == 0) break;
        }
        auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
        use(text.substr(at, end - at + 1), entry.path().string() + ":" + std::to_string(line));
      }
    }
}

}  // namespace

// A symlink that takes a name's place between two calls leads out of the tree.
TEST_CASE("modes and owners are set by name only where a symlink is not followed") {
  int calls = 0;
  for (const auto* name : {"fchmodat", "fchownat"})
    for_each_call({"store", "workers", "exporters"}, name,
                  [&](const std::string& call, const std::string& where) {
                    INFO(where << ": " << call);
                    ++calls;
                    bool safe = call.find("AT_SYMLINK_NOFOLLOW") != std::string::npos ||
                                call.find("AT_EMPTY_PATH") != std::string::npos;
                    CHECK(safe);
                  });
  CHECK(calls > 10);
}

// The name may be a device or a FIFO: see store/files/regular_file.hpp.
TEST_CASE("what builds wrote is opened for its bytes by one function") {
  const std::set<std::string> own = {
      // What only we write to: blobs, the database, the lock; and the functions themselves.
      "store/blobs/blob_store.cpp", "store/database/metadata_db.cpp", "store/state_root.cpp",
      "store/files/file_facts.cpp", "store/files/regular_file.cpp", "filesync/tree.cpp",
      "workers/executor/rooted.cpp",
      // What the kernel, or git in a directory of ours, has made.
      "workers/executor/cgroup_root.cpp", "workers/sources/git.cpp", "workers/sources/git_bundle.cpp"};
  int calls = 0;
  for (const auto* name : {"open_at", "open_in_root", "openat", "open_file", "open_beneath"})
    for_each_call({"store", "workers", "exporters"}, name,
                  [&](const std::string& call, const std::string& where) {
                    for (const auto& file : own)
                      if (where.find("/" + file + ":") != std::string::npos) return;
                    if (call.find("O_") == std::string::npos) return;  // of the same name, or a declaration
                    INFO(where << ": " << call);
                    ++calls;
                    bool harmless = false;
                    for (const auto* flag : {"O_PATH", "O_DIRECTORY", "O_EXCL", "O_TMPFILE"})
                      harmless = harmless || call.find(flag) != std::string::npos;
                    CHECK(harmless);
                  });
  CHECK(calls > 20);
}
