// Writing tar archives into a byte sink: plain entries of archives we make up, and trees of files.
// ustar where it suffices, pax headers where not. Pure. Source: POSIX pax interchange format; Go archive/tar.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "store/filesync/tree.hpp"
#include "store/stream.hpp"

namespace kiln::exporters {

struct tar_entry {
  std::string name;
  char type = '0';  // '0' file, '1' hard link, '2' symlink, '3' char, '4' block, '5' directory, '6' fifo
  std::uint32_t mode = 0644;
  std::int64_t uid = 0, gid = 0;
  std::int64_t size = 0;
  std::int64_t mtime_ns = 0;
  std::string link;
  std::int64_t major = 0, minor = 0;
  std::map<std::string, std::string> xattrs;
};

class tar_writer {
 public:
  explicit tar_writer(store::byte_sink& out) : out_(out) {}

  /// The header; `size` bytes of content follow through content().
  status begin(const tar_entry& e);
  status content(std::string_view bytes);
  /// Pads what begin() announced; internal when the content was not of the announced size.
  status end();
  status add(const tar_entry& e, std::string_view bytes);
  status add(const tar_entry& e, store::byte_source& source);
  /// The two empty blocks. Does not finish the sink.
  status finish();

 private:
  store::byte_sink& out_;
  std::int64_t left_ = 0, size_ = 0;
};

/// Writes every entry of the tree; sockets are left out. Files that shrink or grow meanwhile are data_loss.
status write_tree(tar_writer& tar, filesync::file_tree& tree, std::stop_token stop);

}  // namespace kiln::exporters
