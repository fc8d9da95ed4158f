// A file that one process at a time can hold. It is there only while somebody does, or when who held it was
// killed; being held is what counts.
#pragma once

#include <filesystem>

#include "base/result.hpp"
#include "base/unique_fd.hpp"

namespace kiln {

class lock_file {
 public:
  lock_file() = default;
  lock_file(lock_file&& other) noexcept = default;
  lock_file& operator=(lock_file&& other) noexcept = default;
  /// Removes the file, and lets go of it.
  ~lock_file();

  /// Makes the file if need be. failed_precondition when it is held.
  static result<lock_file> take(const std::filesystem::path& path);

 private:
  std::filesystem::path path_;
  unique_fd held_;
};

}  // namespace kiln
