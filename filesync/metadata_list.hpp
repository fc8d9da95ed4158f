// What a metadata-only transfer was told of, as the file `.fsutil-metadata` has it: for every entry its
// length as little-endian uint32, then its Stat.
#pragma once

#include <string>

#include "base/result.hpp"
#include "filesync/file_stat.hpp"

namespace kiln::filesync {

class metadata_list {
 public:
  /// resource_exhausted when it would be longer than configs::filesync_max_metadata.
  status add(const file_stat& stat);
  /// Makes the file in that directory, or replaces it.
  status write(int directory) const;

 private:
  std::string bytes_;
};

}  // namespace kiln::filesync
