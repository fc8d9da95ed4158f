#include "filesync/validator.hpp"

#include "base/slash_path.hpp"
#include "configs/filesync.hpp"

namespace kiln::filesync {

namespace {

error refuse(std::string_view why, const std::string& path) {
  return make_error(errc::invalid_argument, std::string(why) + " " + path + ": invalid argument");
}

}  // namespace

status entry_validator::check(const file_stat& entry) {
  const std::string& path = entry.path();
  if (path.empty() || path == "." || path.size() > configs::filesync_max_path ||
      path.find('\0') != std::string::npos || path != clean_path(path)) {
    return refuse("unclean path", path.substr(0, 256));
  }
  if (path.front() == '/') return refuse("absolute path", path);
  if (path == ".." || path.starts_with("../")) return refuse("escape check", path);
  if (entry.linkname().size() > configs::filesync_max_path ||
      entry.linkname().find('\0') != std::string::npos) {
    return refuse("invalid link", path);
  }
  if (is_symlink(entry) && entry.linkname().empty()) return refuse("invalid link", path);
  std::uint32_t type = entry.mode() & go_mode::type_mask;
  if (type != 0 && type != go_mode::dir && type != go_mode::symlink && type != go_mode::device &&
      type != (go_mode::device | go_mode::char_device) && type != go_mode::named_pipe) {
    return refuse("unsupported file type", path);
  }

  std::size_t slash = path.rfind('/');
  std::string dir = slash == std::string::npos ? "" : path.substr(0, slash);
  std::string base = path.substr(slash == std::string::npos ? 0 : slash + 1);
  auto last_path = [this] {
    const parent& p = parents_.back();
    return p.dir.empty() ? p.last : (p.last.empty() ? p.dir : p.dir + "/" + p.last);
  };
  std::string previous = last_path();
  while (parents_.size() > 1 && compare_paths(parents_.back().dir, dir) > 0) parents_.pop_back();
  while (parents_.size() > 1 && parents_.back().dir != dir && !(dir.starts_with(parents_.back().dir + "/"))) {
    parents_.pop_back();
  }
  if (parents_.back().dir != dir || parents_.back().last >= base) {
    return make_error(errc::invalid_argument, "changes out of order: \"" + path + "\" \"" + previous + "\"");
  }
  parents_.back().last = base;
  if (is_dir(entry)) {
    parents_.push_back({path, ""});
    return {};
  }
  if (is_symlink(entry)) return {};
  if (entry.linkname().empty()) {
    files_.insert(path);
  } else if (!files_.contains(entry.linkname())) {
    return make_error(errc::invalid_argument,
                      "invalid link " + path + " to unknown path: \"" + entry.linkname() + "\"");
  }
  return {};
}

}  // namespace kiln::filesync
