#include <catch2/catch.hpp>

#include "tests/support/temp_dir.hpp"
#include "workers/executor/cgroup_root.hpp"

using namespace kiln;

TEST_CASE("processes leave the root of a cgroup hierarchy, and groups below it get its controllers") {
  test::temp_dir root;
  test::write_file(root / "cgroup.controllers", "cpu io memory\n");
  test::write_file(root / "cgroup.procs", "12\n");
  test::write_file(root / "cgroup.subtree_control", "");
  // Not a real hierarchy: control files are not made by making a group, and keep the last value written.
  test::write_file(root.path() / "init/cgroup.procs", "");
  REQUIRE(workers::move_out_of_cgroup_root(root.path()).ok());
  CHECK(test::read_file(root.path() / "init/cgroup.procs") == "12");
  CHECK(test::read_file(root / "cgroup.subtree_control") == "+memory");
}

TEST_CASE("what is no cgroup v2 root is left as it is") {
  test::temp_dir root;
  CHECK_FALSE(workers::move_out_of_cgroup_root(root.path()).ok());
  CHECK(std::filesystem::is_empty(root.path()));
}
