// Tar archives, entry by entry: v7, ustar, GNU and pax, sparse files of either. What is an entry, and what is
// none, is as Go's archive/tar has it, which is what images are unpacked with elsewhere: a layer means the
// same everywhere. Knows nothing of files. Not thread-safe.
#pragma once

#include <cstdint>
#include <ctime>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "store/files/stream.hpp"

namespace kiln::store {

struct tar_header {
  char type = '0';  // as tar_entry has it; also 'S' sparse file of GNU tar, 'g' pax records for all (of no
                    // use), or odd
  std::string name;
  std::string link;
  std::int64_t mode = 0;
  std::int64_t uid = 0;
  std::int64_t gid = 0;
  std::int64_t size = 0;  // of the content with its holes
  struct timespec mtime {};
  std::int64_t device_major = 0;
  std::int64_t device_minor = 0;
  std::map<std::string, std::string> xattrs;  // of SCHILY.xattr.*
};

class tar_reader {
 public:
  /// Reads ahead; what stands behind the archive's end is left to the source's owner, but for what was read
  /// ahead.
  explicit tar_reader(byte_source& in);

  /// The next entry; nothing at the end of the archive, which may lack its mark. data_loss for what is no
  /// archive or ends within an entry.
  result<std::optional<tar_header>> next();

  /// A piece of the entry's content and its place in the file: what lies between pieces is a hole.
  struct piece {
    std::int64_t at = 0;
    std::string_view bytes;  // until the next call
  };
  /// The next piece; nothing at the content's end.
  result<std::optional<piece>> data();

 private:
  struct extent {
    std::int64_t at = 0;
    std::int64_t size = 0;
  };
  using pax_records = std::map<std::string, std::string>;

  result<bool> fill();
  result<std::size_t> take(std::span<char> into);
  status skip_rest();
  result<std::string> special_content();
  void begin_content(const tar_header& header);
  result<pax_records> read_pax();
  status read_sparse_map(tar_header& header, std::span<char> block, const pax_records& pax);
  status read_old_map(tar_header& header, std::span<char> block);
  status read_map_in_content();

  byte_source& in_;
  std::vector<char> buffer_;
  std::size_t begin_ = 0, end_ = 0;  // of what was read and not yet used
  std::int64_t stored_ = 0;          // bytes of the entry's content that are still to come
  std::size_t padding_ = 0;          // and what fills its last block
  std::vector<extent> extents_;      // of the content that is not hole
  std::size_t extent_ = 0;
};

}  // namespace kiln::store
