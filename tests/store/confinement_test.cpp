// What the daemon looks into is on nodev, nosuid, noexec mounts; what containers get is not.
#include "tests/store/store_fixture.hpp"

#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#include <exception>
#include <thread>

#include "store/files/confinement.hpp"

using namespace kiln;
using namespace kiln::store;
using namespace kiln::store::testing;

namespace {

bool is_confined(const fs::path& path) {
  struct statvfs info {};
  REQUIRE(::statvfs(path.c_str(), &info) == 0);
  return (info.f_flag & ST_NODEV) && (info.f_flag & ST_NOSUID) && (info.f_flag & ST_NOEXEC);
}
bool is_open_to_all(const fs::path& path) {
  struct statvfs info {};
  REQUIRE(::statvfs(path.c_str(), &info) == 0);
  return !(info.f_flag & (ST_NODEV | ST_NOSUID | ST_NOEXEC));
}

/// The errno of opening a path for reading; 0 when it opens.
int open_errno(int directory, const char* path) {
  unique_fd fd(::openat(directory, path, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  return fd ? 0 : errno;
}

void make_null(const fs::path& path) { REQUIRE(::mknod(path.c_str(), S_IFCHR | 0666, ::makedev(1, 3)) == 0); }

/// Runs a function in a mount namespace of its own, on a thread of its own.
template <class F>
void in_own_namespace(F f) {
  std::exception_ptr failure;
  std::thread([&] {
    try {
      REQUIRE(::unshare(CLONE_NEWNS) == 0);
      REQUIRE(::mount(nullptr, "/", nullptr, MS_REC | MS_SLAVE, nullptr) == 0);
      f();
    } catch (...) {
      failure = std::current_exception();
    }
  }).join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace

TEST_CASE("A directory opened for looking shows files, and devices by name only") {
  temporary_root root;
  write(root.path() / "file", "x");
  make_null(root.path() / "null");
  auto fd = must(open_confined(root.path()));
  CHECK(open_errno(fd.get(), "file") == 0);
  CHECK(open_errno(fd.get(), "null") == EACCES);
  CHECK(open_errno(AT_FDCWD, (root.path() / "null").c_str()) == 0);  // elsewhere nothing has changed
  struct stat info {};
  CHECK(::fstatat(fd.get(), "null", &info, AT_SYMLINK_NOFOLLOW) == 0);
  CHECK(::mknodat(fd.get(), "made", S_IFCHR | 0600, ::makedev(1, 5)) == 0);
}

TEST_CASE("Mounts are confined when they are for us, and not when they are for a container") {
  for (auto kind : {snapshotter_kind::automatic, snapshotter_kind::native}) {
    temporary_root root;
    auto store = open_store(root, kind);
    auto base = layer_of(*store, {}, {{"file", "x"}});
    auto top = layer_of(*store, base, {{"more", "y"}});
    auto read = must(store->files().mounts(top, {}));
    CHECK(is_confined(must(mounted::make(*store, read)).path()));
    CHECK(is_open_to_all(must(mounted::make(*store, read, mount_use::container)).path()));
    auto snapshot = must(store->create(top, {}, {}));
    auto both = must(store->files().mounts(snapshot));
    if (kind == snapshotter_kind::automatic && store->snapshotter() == snapshotter_kind::overlayfs) {
      CHECK(is_confined(must(mounted::make(*store, both)).path()));
      CHECK(is_open_to_all(
          must(mounted::make(*store, must(store->files().mounts(snapshot)), mount_use::container)).path()));
    }
  }
}

TEST_CASE("In a mount namespace of our own the whole state is confined, but for what containers bind") {
  temporary_root root;
  in_own_namespace([&] {
    auto store = must(ref_store::open({root.path(), snapshotter_kind::automatic, true}));
    auto s = begin(*store, {});
    make_null(s.path() / "null");
    write(s.path() / "file", "x");
    CHECK(is_confined(s.path()));
    auto snapshot = end(*store, std::move(s));
    auto specs = must(store->files().mounts(snapshot, {}));
    REQUIRE(specs.size() == 1);
    CHECK(is_confined(specs[0].source));
    CHECK(open_errno(AT_FDCWD, (specs[0].source + "/null").c_str()) == EACCES);
    CHECK(is_open_to_all(specs[0].container_source));
    CHECK(open_errno(AT_FDCWD, (specs[0].container_source + "/null").c_str()) == 0);
    CHECK(read(specs[0].container_source + "/file") == "x");
    auto layer = layer_of(*store, snapshot, {{"more", "y"}});
    auto below = must(mounted::make(*store, must(store->files().mounts(layer, {})), mount_use::container));
    CHECK(is_open_to_all(below.path()));
    CHECK(open_errno(AT_FDCWD, (below.path() / "null").c_str()) == 0);

    // Copies still share their files.
    auto kept = must(store->acquire_named("kept", {}, {}, {}));
    auto kept_at = must(store->files().mounts(kept))[0].source;
    write(fs::path(kept_at) / "shared", "z");
    auto copy = must(store->commit_copy(kept, {}, {}));
    CHECK(fs::hard_link_count(fs::path(must(store->files().mounts(copy, {}))[0].source) / "shared") == 2);
  });
  std::ifstream table("/proc/self/mountinfo");
  for (std::string line; std::getline(table, line);)
    CHECK(line.find(root.path().string()) == std::string::npos);
}

TEST_CASE("A state directory that others can write to is refused with its owner and mode") {
  temporary_root root;
  write(root.path() / "planted", "x");
  REQUIRE(::chmod(root.path().c_str(), 0777) == 0);
  auto opened = ref_store::open({root.path()});
  REQUIRE_FALSE(opened.ok());
  CHECK(opened.error().message.find("state directory: " + root.path().string() + " (owner 0:0, mode 0777)") ==
        0);
  REQUIRE(::chmod(root.path().c_str(), 0711) == 0);
  auto store = open_store(root);
  for (auto name : {"", "blobs", "snapshots", "transient"}) {
    struct stat info {};
    REQUIRE(::stat((root.path() / name).c_str(), &info) == 0);
    CHECK((info.st_mode & 07777) == 0700);
  }
}
