// A file system of a few megabytes or files, for tests of what happens when it is full.
#pragma once

#include <sys/mount.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "store_fixture.hpp"

namespace kiln::store::testing {

/// A tmpfs of that size; what is mounted in it goes with it.
class small_disk {
 public:
  explicit small_disk(const std::string& options)
      : few_names_(options.find("nr_inodes") != std::string::npos) {
    fs::create_directories(path());
    mounted_ = ::mount("tmpfs", path().c_str(), "tmpfs", 0, options.c_str()) == 0;
  }
  ~small_disk() {
    if (!mounted_) return;
    (void)unmount_below(path());
    ::umount2(path().c_str(), MNT_DETACH);
  }
  small_disk(const small_disk&) = delete;
  /// False without the rights to mount: there is nothing to test then.
  bool is_there() const { return mounted_; }
  fs::path path() const { return root_.path() / "disk"; }

  std::int64_t free_bytes() const {
    struct statvfs info {};
    return ::statvfs(path().c_str(), &info) == 0 ? static_cast<std::int64_t>(info.f_bavail * info.f_frsize)
                                                 : -1;
  }
  /// Takes all that is left: blocks, and names where there are few.
  void fill() {
    unique_fd file(::open((path() / "filler").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600));
    for (std::size_t size : {1 << 20, 4096, 1})
      for (std::string text(size, 'x'); ::write(file.get(), text.data(), text.size()) > 0;) {
      }
    for (int i = 0; few_names_ && ::close(::open(filler(i).c_str(), O_CREAT | O_EXCL | O_CLOEXEC, 0600)) == 0;
         ++i) {
    }
  }
  void release() {
    std::error_code ignored;
    fs::remove(path() / "filler", ignored);
    for (int i = 0; fs::remove(filler(i), ignored); ++i) {
    }
  }

 private:
  std::string filler(int i) const { return (path() / ("filler-" + std::to_string(i))).string(); }

  temporary_root root_;
  const bool few_names_;
  bool mounted_ = false;
};

}  // namespace kiln::store::testing
