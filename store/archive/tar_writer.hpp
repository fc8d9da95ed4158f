// Tar headers as bytes that depend on the entry only: ustar where it suffices, pax records where it does not;
// the bytes that Go's archive/tar writes, so that the same files give the same digest. Knows nothing of
// files. Not thread-safe.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "store/files/stream.hpp"

namespace kiln::store {

struct tar_entry {
  std::string name = {};  // without leading slash; directories end in '/'
  char type = '0';  // '0' file, '1' hard link, '2' symlink, '3' character, '4' block, '5' directory, '6' fifo
  std::uint32_t mode = 0;  // permission, setuid, setgid and sticky bits
  std::uint64_t uid = 0;
  std::uint64_t gid = 0;
  std::int64_t size = 0;       // bytes of content that follow
  std::int64_t mtime = 0;      // seconds; before 1970 is possible
  std::uint32_t mtime_ns = 0;  // further nanoseconds, when they matter
  std::string link = {};
  std::uint32_t device_major = 0;
  std::uint32_t device_minor = 0;
  std::map<std::string, std::string> xattrs = {};  // written as SCHILY.xattr.*
};

/// Where a name of more than 100 bytes goes.
enum class long_names {
  split,   // into ustar's two fields, if it can be split at a slash: what Go writes when no format is asked
           // for
  record,  // into a pax record: what it writes when pax is asked for, as containerd does for layers
};

class tar_writer {
 public:
  explicit tar_writer(byte_sink& out, long_names names = long_names::split) : out_(out), names_(names) {}
  status header(const tar_entry& entry);
  /// Content of the entry just begun; in all exactly entry.size bytes.
  status content(std::string_view bytes);
  /// Pads the content; out_of_range when it was too short.
  status end_entry();
  /// The two zero blocks. Does not finish the sink.
  status finish();

 private:
  status pax_header(const std::string& name, std::string records);

  byte_sink& out_;
  long_names names_;
  std::int64_t left_ = 0;  // bytes of content that must still come
  std::size_t padding_ = 0;
};

}  // namespace kiln::store
