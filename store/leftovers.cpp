#include "store/leftovers.hpp"

#include <fcntl.h>
#include <stdio.h>

#include <cerrno>
#include <string>
#include <string_view>
#include <utility>

#include <spdlog/spdlog.h>

#include "base/files.hpp"

namespace kiln::store {

namespace fs = std::filesystem;

namespace {

constexpr std::string_view aside = "removed-";

void remove_from(const fs::path& directory, const std::stop_token& stop) {
  auto opened = open_file(directory, O_RDONLY | O_DIRECTORY);
  auto names = opened.ok() ? list_names(opened->get()) : std::move(opened).error();
  if (!names.ok()) return spdlog::warn("store: {}", names.error().message);
  for (const auto& name : *names) {
    if (stop.stop_requested()) return;
    if (!name.starts_with(aside)) continue;
    if (auto gone = remove_tree(directory / name); !gone) spdlog::warn("store: {}", gone.error().message);
  }
}

}  // namespace

status leftovers::set_aside(const fs::path& path) {
  for (int n = 0;; ++n) {
    auto to = path.parent_path() / (std::string(aside) + path.filename().string() + "-" + std::to_string(n));
    if (::renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return {};
    if (errno != EEXIST) return errno_error(errno, "setting aside " + path.string());
  }
}

void leftovers::clear(std::vector<fs::path> directories) {
  auto started =
      thread::start("store-clear", [stop = stop_.get_token(), directories = std::move(directories)] {
        for (const auto& directory : directories) remove_from(directory, stop);
      });
  if (started.ok()) clearing_ = *std::move(started);
  else spdlog::warn("store: {}", started.error().message);
}

}  // namespace kiln::store
