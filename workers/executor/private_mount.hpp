// A mount point of our own, undone when it goes. Move-only.
#pragma once

#include <filesystem>
#include <string>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace kiln::workers {

class private_mount {
 public:
  private_mount() = default;
  private_mount(private_mount&& other) noexcept { swap(other); }
  private_mount& operator=(private_mount&& other) noexcept {
    private_mount gone(std::move(other));
    swap(gone);
    return *this;
  }
  ~private_mount();

  /// Binds what the descriptor refers to (a file or a directory, with what is mounted below) into
  /// `directory`, a fresh directory this takes over and removes.
  static result<private_mount> bind(int fd, std::filesystem::path directory);
  /// An empty tmpfs in `directory`, a fresh directory this takes over. `flags` as for mount(2).
  static result<private_mount> tmpfs(std::filesystem::path directory, unsigned long flags,
                                     const std::string& options);

  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  void swap(private_mount& other) noexcept {
    std::swap(directory_, other.directory_);
    std::swap(path_, other.path_);
  }
  std::filesystem::path directory_;
  std::filesystem::path path_;  // the mount point, in directory_
};

}  // namespace kiln::workers
