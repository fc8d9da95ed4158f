// A directory for what is needed for a moment only; emptied when the store is opened. Thread-safe.
#pragma once

#include <filesystem>
#include <string_view>
#include <utility>

#include "base/result.hpp"

namespace kiln::store {

class scratch_directory {
 public:
  explicit scratch_directory(std::filesystem::path path) : path_(std::move(path)) {}
  /// A fresh directory in it (mode 0700), on the file system of the state. The caller removes it.
  result<std::filesystem::path> make(std::string_view purpose) const;

 private:
  std::filesystem::path path_;
};

}  // namespace kiln::store
