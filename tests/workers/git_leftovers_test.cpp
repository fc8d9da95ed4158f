#include "workers/sources/git_leftovers.hpp"

#include <catch2/catch.hpp>

#include "tests/support/temp_dir.hpp"

using namespace kiln;
namespace fs = std::filesystem;

TEST_CASE("What a killed git left goes, and the repository itself stays") {
  test::temp_dir dir;
  for (auto left : {"index.lock", "shallow.lock", "HEAD.lock", "packed-refs.lock",
                    "refs/kiln/heads/main.lock", "objects/pack/tmp_pack_abc", "objects/pack/tmp_idx_abc",
                    "objects/12/tmp_obj_abc", "objects/pack/.tmp-12-pack-ab.pack", "shallow_abc"})
    test::write_file(dir / left, "half of it");
  for (auto kept : {"HEAD", "config", "shallow", "packed-refs", "index", "refs/kiln/heads/main",
                    "refs/kiln/heads/tmp_branch", "refs/kiln/heads/shallow_branch",
                    "objects/pack/pack-ab.pack", "objects/pack/pack-ab.idx", "objects/12/34"})
    test::write_file(dir / kept, "all of it");
  REQUIRE(workers::remove_git_leftovers(dir.path()).ok());
  int files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(dir.path()))
    if (entry.is_regular_file()) {
      ++files;
      CHECK(test::read_file(entry.path()) == "all of it");
    }
  CHECK(files == 11);
  CHECK(workers::remove_git_leftovers(dir / "no repository yet").ok());
}
