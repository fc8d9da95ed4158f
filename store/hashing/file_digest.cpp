#include "store/hashing/file_digest.hpp"

#include <sys/sysmacros.h>

#include <algorithm>
#include <cerrno>

#include "base/digest.hpp"
#include "base/files.hpp"
#include "configs/store.hpp"
#include "store/files/file_data.hpp"
#include "store/files/regular_file.hpp"

namespace kiln::store {

std::string tarsum_header(const struct stat& info, const std::string& link, const xattr_map& xattrs) {
  auto type = info.st_mode & S_IFMT;
  char flag = '0';
  std::int64_t size = 0;
  unsigned mode = info.st_mode & 07777;
  unsigned major = 0, minor = 0;
  switch (type) {
    case S_IFREG: size = info.st_size; break;
    case S_IFDIR: flag = '5'; break;
    case S_IFLNK:
      flag = '2';
      mode |= 0777;
      break;
    case S_IFCHR:
    case S_IFBLK:
      flag = type == S_IFCHR ? '3' : '4';
      major = ::major(info.st_rdev);
      minor = ::minor(info.st_rdev);
      break;
    case S_IFIFO: flag = '6'; break;
    default: break;  // sockets count as empty files
  }
  std::string text = "name";
  text += "mode" + std::to_string(mode);
  text += "uid" + std::to_string(info.st_uid);
  text += "gid" + std::to_string(info.st_gid);
  text += "size" + std::to_string(size);
  text += std::string("typeflag") + flag;
  text += "linkname" + link;
  text += "uname";
  text += "gname";
  text += "devmajor" + std::to_string(major);
  text += "devminor" + std::to_string(minor);
  for (const auto& [key, value] : xattrs) {
    bool foreign = key.rfind("security.", 0) == 0 || key.rfind("system.", 0) == 0 || is_overlay_xattr(key);
    if (foreign && key != "security.capability") continue;
    text += key + value;
  }
  return text;
}

result<std::string> file_digest(int directory, const std::string& name, const struct stat& info,
                                const job_context& job) {
  std::string link;
  if (S_ISLNK(info.st_mode)) {
    link.resize(limits::archive_name + 1);
    auto size = ::readlinkat(directory, name.c_str(), link.data(), link.size());
    if (size < 0) return errno_error(errno, "read link " + name);
    link.resize(static_cast<std::size_t>(size));
  }
  KILN_TRY(auto xattrs, get_xattrs(directory, name));
  sha256_hasher hash;
  hash.update(tarsum_header(info, link, xattrs));
  if (S_ISREG(info.st_mode) && info.st_size > 0) {
    KILN_TRY(auto file, open_regular_at(directory, name));
    auto source = read_file_data(std::move(file));
    std::string buffer(std::min<std::size_t>(limits::copy_buffer, static_cast<std::size_t>(info.st_size)),
                       '\0');
    while (true) {
      auto count = source->read(buffer);
      if (!count.ok()) return std::move(count).error().with_context(name);
      if (*count == 0) break;
      hash.update({buffer.data(), *count});
      KILN_CHECK(job.check());
    }
  }
  return hash.finish().str();
}

}  // namespace kiln::store
