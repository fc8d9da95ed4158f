#include "filesync/metadata_list.hpp"

#include <cerrno>

#include <fcntl.h>
#include <sys/stat.h>

#include "base/files.hpp"
#include "base/unique_fd.hpp"
#include "configs/filesync.hpp"
#include "filesync/disk.hpp"
#include "filesync/receiver.hpp"

namespace kiln::filesync {

status metadata_list::add(const file_stat& stat) {
  auto size = static_cast<std::uint32_t>(stat.ByteSizeLong());
  if (bytes_.size() + size + 4 > configs::filesync_max_metadata)
    return make_error(errc::resource_exhausted, "too much metadata in one transfer");
  for (int i = 0; i < 4; ++i) bytes_ += static_cast<char>((size >> (8 * i)) & 0xFF);
  stat.AppendToString(&bytes_);
  return {};
}

status metadata_list::write(int directory) const {
  KILN_CHECK(remove_tree_at(directory, metadata_file_name));
  unique_fd fd(
      ::openat(directory, metadata_file_name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644));
  if (!fd || ::fchmod(fd.get(), 0644) != 0)
    return errno_error(errno, "create " + std::string(metadata_file_name));
  auto written = write_all(fd.get(), bytes_);
  if (!written) return std::move(written).error().with_context("write " + std::string(metadata_file_name));
  return {};
}

}  // namespace kiln::filesync
