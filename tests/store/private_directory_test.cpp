// Directories of ours that no other user may change, and the way to them. These tests run as root.
#include <catch2/catch.hpp>

#include <sys/stat.h>
#include <unistd.h>

#include "store/files/private_directory.hpp"
#include "tests/support/temp_dir.hpp"

using namespace kiln;
using namespace kiln::store;
namespace fs = std::filesystem;

namespace {

constexpr uid_t nobody = 65534;

mode_t mode_of(const fs::path& path) {
  struct stat info {};
  REQUIRE(::lstat(path.c_str(), &info) == 0);
  return info.st_mode & 07777;
}

/// A directory with exactly this mode and owner.
fs::path directory(const fs::path& path, mode_t mode, uid_t owner = 0) {
  REQUIRE((::mkdir(path.c_str(), 0700) == 0 || errno == EEXIST));
  REQUIRE(::chmod(path.c_str(), mode) == 0);
  REQUIRE(::chown(path.c_str(), owner, owner) == 0);
  return path;
}

struct umask_of_test {
  explicit umask_of_test(mode_t mask) : before(::umask(mask)) {}
  ~umask_of_test() { ::umask(before); }
  mode_t before;
};

void refused(const result<private_directory>& r, const fs::path& path, const std::string& owner_and_mode) {
  REQUIRE_FALSE(r.ok());
  INFO(r.error().message);
  CHECK(r.error().code == errc::permission_denied);
  CHECK(r.error().message.find(path.string() + " (" + owner_and_mode + ")") == 0);
}

}  // namespace

TEST_CASE(
    "A private directory is made for its owner alone, its parents for everybody to pass, whatever the "
    "umask") {
  for (mode_t mask : {0, 022, 077}) {
    umask_of_test with(mask);
    test::temp_dir dir;
    auto made = private_directory::open(dir / "a/b/state");
    REQUIRE(made.ok());
    CHECK(mode_of(dir / "a") == 0755);
    CHECK(mode_of(dir / "a/b") == 0755);
    CHECK(mode_of(dir / "a/b/state") == 0700);
    auto inside = made->directory("inside");
    REQUIRE(inside.ok());
    CHECK(mode_of(dir / "a/b/state/inside") == 0700);
    CHECK(inside->path() == fs::canonical(dir / "a/b/state/inside"));
  }
}

TEST_CASE("One that others could only look into is closed to them, with what is in it") {
  test::temp_dir dir;
  directory(dir / "state", 0755);
  test::write_file(dir / "state/file", "x");
  REQUIRE(private_directory::open(dir / "state").ok());
  CHECK(mode_of(dir / "state") == 0700);
  CHECK(test::read_file(dir / "state/file") == "x");
}

TEST_CASE("One that others could write to is taken while it is empty, and refused when it is not") {
  test::temp_dir dir;
  for (mode_t mode : {0777, 01777, 0770}) {
    directory(dir / "state", mode);
    REQUIRE(private_directory::open(dir / "state").ok());
    CHECK(mode_of(dir / "state") == 0700);
  }
  test::write_file(dir / "state/file", "x");
  directory(dir / "state", 0777);
  refused(private_directory::open(dir / "state"), dir / "state", "owner 0:0, mode 0777");
  CHECK(mode_of(dir / "state") == 0777);
}

TEST_CASE("Another user's directory is refused, and so is one below a directory in which others can rename") {
  test::temp_dir dir;
  directory(dir / "theirs", 0755, nobody);
  refused(private_directory::open(dir / "theirs"), dir / "theirs", "owner 65534:65534, mode 0755");
  refused(private_directory::open(dir / "theirs/state"), dir / "theirs", "owner 65534:65534, mode 0755");
  CHECK_FALSE(fs::exists(dir / "theirs/state"));
  directory(dir / "open", 0777);
  refused(private_directory::open(dir / "open/state"), dir / "open", "owner 0:0, mode 0777");
  directory(dir / "sticky", 01777);
  CHECK(private_directory::open(dir / "sticky/state").ok());
  directory(dir / "sticky/theirs", 0700, nobody);
  refused(private_directory::open(dir / "sticky/theirs"), dir / "sticky/theirs",
          "owner 65534:65534, mode 0700");
}

TEST_CASE("Symlinks on the way are followed where nobody else can change them") {
  test::temp_dir dir;
  directory(dir / "sticky", 01777);
  fs::create_directory_symlink(dir / "target", dir / "sticky/ours");
  fs::create_directory_symlink(dir / "target", dir / "sticky/theirs");
  REQUIRE(::lchown((dir / "sticky/theirs").c_str(), nobody, nobody) == 0);
  auto ours = private_directory::open(dir / "sticky/ours/state");
  REQUIRE(ours.ok());
  CHECK(ours->path() == fs::canonical(dir / "target/state"));
  auto theirs = private_directory::open(dir / "sticky/theirs/state");
  REQUIRE_FALSE(theirs.ok());
  CHECK(theirs.error().message.find((dir / "sticky/theirs").string() +
                                    " (owner 65534:65534, mode 0777) is a symlink") == 0);
  fs::create_directory_symlink("loop", dir / "loop");
  CHECK_FALSE(private_directory::open(dir / "loop/state").ok());
}

TEST_CASE("A file is written as a new one with exactly its mode, and never through a link") {
  umask_of_test with(077);
  test::temp_dir dir;
  auto state = private_directory::open(dir / "state");
  REQUIRE(state.ok());
  test::write_file(dir / "victim", "untouched");
  fs::create_symlink(dir / "victim", dir / "state/file");
  REQUIRE(state->write("file", "new", 0644).ok());
  CHECK(test::read_file(dir / "victim") == "untouched");
  CHECK(mode_of(dir / "state/file") == 0644);
  auto text = state->read("file", 10);
  REQUIRE(text.ok());
  CHECK(*text == "new");
  CHECK(state->read("file", 2).error().code == errc::resource_exhausted);
  auto names = state->names();
  REQUIRE(names.ok());
  CHECK(*names == std::vector<std::string>{"file"});

  fs::create_symlink(dir / "victim", dir / "state/link");
  CHECK_FALSE(state->read("link", 100).ok());
  CHECK(state->has("link"));
  CHECK(state->remove("link").ok());
  CHECK_FALSE(state->has("link"));
  CHECK(state->remove("link").ok());
  CHECK(fs::exists(dir / "victim"));
}

TEST_CASE("What a write that was cut off has left is swept, and nothing else") {
  test::temp_dir dir;
  auto state = private_directory::open(dir / "state");
  REQUIRE(state.ok());
  REQUIRE(state->write("file", "whole", 0600).ok());
  test::write_file(dir / "state/.new-abc", "ha");
  test::write_file(dir / "state/.newer", "another's");
  REQUIRE(state->sweep_unfinished().ok());
  auto names = state->names();
  REQUIRE(names.ok());
  CHECK(*names == std::vector<std::string>{".newer", "file"});
}

TEST_CASE("A guarded directory may be written to by those who are trusted, and by nobody else") {
  test::temp_dir dir;
  umask_of_test with(077);
  REQUIRE(guarded_directory(dir / "run/kiln").ok());
  CHECK(mode_of(dir / "run/kiln") == 0755);
  directory(dir / "theirs", 0755, nobody);
  CHECK_FALSE(guarded_directory(dir / "theirs").ok());
  CHECK(guarded_directory(dir / "theirs", {nobody, {}}).ok());
  directory(dir / "group", 0775);
  REQUIRE(::chown((dir / "group").c_str(), 0, nobody) == 0);
  CHECK_FALSE(guarded_directory(dir / "group").ok());
  CHECK(guarded_directory(dir / "group", {{}, nobody}).ok());
  directory(dir / "open", 0777);
  CHECK_FALSE(guarded_directory(dir / "open", {nobody, nobody}).ok());
  directory(dir / "sticky", 01777);
  CHECK(guarded_directory(dir / "sticky").ok());
}
