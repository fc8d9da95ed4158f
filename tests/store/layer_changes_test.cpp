// What layers changed, as opposed to what their upper directories hold.
#include "store/difference.hpp"
#include "store_fixture.hpp"

#include <sys/xattr.h>

using namespace kiln;
using namespace kiln::store;
using namespace kiln::store::testing;

TEST_CASE("An upper directory is plain when it holds changes and nothing else") {
  temporary_root root;
  auto lower = root.path() / "lower", upper = root.path() / "upper";
  for (const auto& p : {lower, upper}) fs::create_directories(p);
  write(lower / "d/a", "a");
  write(lower / "d/b", "b");
  auto plain = [&] { return must(holds_only_changes(lower, upper, false, {})); };
  auto whiteout = [&](const char* name) {
    REQUIRE(::mknod((upper / name).c_str(), S_IFCHR, ::makedev(0, 0)) == 0);
  };
  auto changes = [&] {
    std::map<std::string, change> told;
    must(for_each_layer_change(lower, upper, false, {}, [&](const changed_entry& c) -> status {
      told[c.path] = c.kind;
      return {};
    }));
    return told;
  };
  using told = std::map<std::string, change>;
  CHECK(plain());
  fs::create_directories(upper / "d");
  CHECK_FALSE(plain());
  CHECK(changes().empty());
  whiteout("d/a");
  CHECK(plain());
  CHECK(changes() == told{{"d/a", change::removed}});
  whiteout("d/never");
  CHECK_FALSE(plain());
  CHECK(changes() == told{{"d/a", change::removed}});
  fs::remove(upper / "d/never");
  write(upper / "new/x", "x");
  CHECK(plain());
  REQUIRE(::lsetxattr((upper / "new").c_str(), "trusted.overlay.opaque", "y", 1, 0) == 0);
  CHECK_FALSE(plain());
  CHECK(changes() ==
        told{{"d/a", change::removed}, {"new", change::added}, {"new/x", change::added}});
  fs::remove_all(upper / "new");
  fs::copy_file(lower / "d/b", upper / "d/b");
  fs::last_write_time(upper / "d/b", fs::last_write_time(lower / "d/b"));
  CHECK_FALSE(plain());
  CHECK(changes() == told{{"d/a", change::removed}});
  write(upper / "d/b", "other");
  CHECK(plain());
  CHECK(changes() == told{{"d/a", change::removed}, {"d/b", change::modified}});
  fs::remove(upper / "d/b");
  fs::remove(upper / "d/a");
  REQUIRE(::lsetxattr((upper / "d").c_str(), "trusted.overlay.opaque", "y", 1, 0) == 0);
  CHECK_FALSE(plain());
  CHECK(changes() == told{{"d/a", change::removed}, {"d/b", change::removed}});
}
