#include "store/files/scratch_directory.hpp"

#include <sys/stat.h>

#include <cctype>
#include <cerrno>
#include <string>

#include "base/digest.hpp"

namespace kiln::store {

result<std::filesystem::path> scratch_directory::make(std::string_view purpose) const {
  std::string name;
  for (char c : purpose.substr(0, 40)) name += std::isalnum(static_cast<unsigned char>(c)) ? c : '-';
  auto path = path_ / (name + "-" + new_id());
  if (::mkdir(path.c_str(), 0700) != 0) return errno_error(errno, "mkdir " + path.string());
  return path;
}

}  // namespace kiln::store
