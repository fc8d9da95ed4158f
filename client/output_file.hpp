// A file that a build writes: it appears whole when the build has succeeded, or not at all.
// Not thread-safe.
#pragma once

#include <string>
#include <string_view>

#include "client/fd.hpp"

namespace kiln::client {

class output_file {
 public:
  /// Beside its destination, without a name where the file system can do that: whatever kills us leaves
  /// nothing. What is at `path` now stays until commit(). What is no regular file (a pipe, a device), and
  /// files in directories that take no new ones, are written in place. Mode as of a new file, or of the one
  /// replaced.
  static result<output_file> open(const std::string& path);
  /// All of it at once, and on the disk before it takes its place.
  static status write_whole(const std::string& path, std::string_view bytes);
  /// A descriptor that is written to as it is.
  static output_file stream(unique_fd fd);
  output_file(output_file&& other) noexcept;
  output_file& operator=(output_file&&) = delete;
  /// Uncommitted, nothing stays.
  ~output_file();

  status write(std::string_view bytes) { return write_all(fd_.get(), bytes); }
  /// Puts it in its place.
  status commit();

 private:
  enum class way { nameless, named, in_place, stream };
  output_file(way w, unique_fd fd, std::string path) : way_(w), fd_(std::move(fd)), path_(std::move(path)) {}

  way way_;
  unique_fd fd_;
  std::string path_;
  std::string temporary_;  // of way::named
};

}  // namespace kiln::client
