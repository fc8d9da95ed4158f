#include "tests/fuzz/support/jail.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/files.hpp"
#include "tests/fuzz/support/input.hpp"

namespace kiln::fuzz {
namespace {

std::string base_directory() {
  std::string base = (std::filesystem::temp_directory_path() / "kiln-fuzz.XXXXXX").string();
  require(::mkdtemp(base.data()) != nullptr, "a temporary directory can be made");
  return base;
}

void write(const std::string& path, const std::string& text, mode_t mode) {
  std::ofstream(path) << text;
  ::chmod(path.c_str(), mode);
}

/// Times of change included: whatever was done to it and undone shows.
bool same(const struct stat& a, const struct stat& b) {
  return a.st_ino == b.st_ino && a.st_mode == b.st_mode && a.st_uid == b.st_uid && a.st_nlink == b.st_nlink &&
         a.st_size == b.st_size && a.st_ctim.tv_sec == b.st_ctim.tv_sec &&
         a.st_ctim.tv_nsec == b.st_ctim.tv_nsec;
}

}  // namespace

jail::jail() : base_(base_directory()), outside_(base_ + "/outside"), canary_(outside_ + "/canary") {
  mounted_ = ::unshare(CLONE_NEWNS) == 0 &&
             ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
             ::mount("fuzz", base_.c_str(), "tmpfs", MS_NODEV | MS_NOSUID | MS_NOEXEC, "size=256m") == 0;
  ::umask(022);
  std::filesystem::create_directory(outside_);
  write(canary_, "x", 0600);
  require(::stat(outside_.c_str(), &outside_then_) == 0 && ::stat(canary_.c_str(), &canary_then_) == 0,
          "the canary sits");
}

jail::~jail() {
  if (mounted_) ::umount2(base_.c_str(), MNT_DETACH);
  (void)remove_tree(base_);
}

std::string jail::fresh(const std::string& name) const {
  auto root = base_ + "/" + name;
  require(remove_tree(root).ok(), "what was made can be removed");
  namespace fs = std::filesystem;
  fs::create_directories(root + "/d/e");
  write(root + "/d/file", "inside", 0644);
  fs::create_symlink("../outside", root + "/up");
  fs::create_symlink(outside_, root + "/abs");
  fs::create_symlink("nowhere/deep", root + "/dangling");
  fs::create_symlink("d", root + "/s");
  fs::create_symlink("loop", root + "/loop");
  fs::create_symlink("../outside/canary", root + "/bird");
  return root;
}

void jail::check() const {
  struct stat outside {
  }, canary{};
  require(::stat(outside_.c_str(), &outside) == 0 && same(outside, outside_then_),
          "the directory outside is as it was");
  require(::stat(canary_.c_str(), &canary) == 0 && same(canary, canary_then_), "the canary is as it was");
  require(::access(root_.c_str(), F_OK) == 0, "the root is there");
}

jail& fresh_jail() {
  static jail j;
  j.reset();
  return j;
}

}  // namespace kiln::fuzz
