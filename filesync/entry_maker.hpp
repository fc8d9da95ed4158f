// Makes the entries of a destination, all but the content of files: directories, links, devices, and what has
// to wait until everything else is there (hard links, the dates of directories). For one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "filesync/file_stat.hpp"
#include "filesync/parent_cache.hpp"

namespace kiln::filesync {

class entry_maker {
 public:
  /// `merge`: what is in the destination is not known beforehand, so it is looked for.
  entry_maker(int root, bool merge) : parents_(root), merge_(merge) {}

  enum class outcome {
    made,           // or kept for finish()
    new_file,       // content is wanted
    replaces_file,  // and something has the name as yet
  };
  /// Makes or replaces one entry. `old` is what the destination has, if known.
  result<outcome> make(const file_stat& stat, const file_stat* old);
  status remove(const std::string& path);
  /// The directory, which is there as told, gets its date again in the end.
  void date(const file_stat& directory);
  /// Once all content is there: hard links, then dates and modes of directories.
  status finish();

 private:
  struct directory_date {
    std::string path;
    std::int64_t mtime;
    std::optional<mode_t> mode;
  };
  status make_directory(int dir, const std::string& name, const file_stat& stat, bool exists,
                        bool old_is_dir);
  status make_special(int dir, const std::string& name, const file_stat& stat, bool exists);
  status make_link(const file_stat& link);

  parent_cache parents_;
  bool merge_;
  std::vector<file_stat> links_;
  std::vector<directory_date> directories_;
};

}  // namespace kiln::filesync
