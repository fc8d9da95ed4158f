#include "frontends/dockerfile/archive_time.hpp"

#include <algorithm>
#include <memory>

#include <archive.h>
#include <archive_entry.h>

namespace kiln::dockerfile {

std::optional<std::int64_t> newest_in_archive(std::string_view bytes) {
  std::unique_ptr<archive, decltype(&archive_read_free)> reader(archive_read_new(), &archive_read_free);
  archive_read_support_filter_all(reader.get());
  archive_read_support_format_tar(reader.get());
  if (archive_read_open_memory(reader.get(), bytes.data(), bytes.size()) != ARCHIVE_OK) return std::nullopt;
  std::optional<std::int64_t> newest;
  for (;;) {
    archive_entry* entry = nullptr;
    auto got = archive_read_next_header(reader.get(), &entry);
    if (got == ARCHIVE_EOF) return newest;
    if (got != ARCHIVE_OK && got != ARCHIVE_WARN) return std::nullopt;
    if (archive_entry_filetype(entry) != AE_IFREG) continue;
    std::int64_t time = archive_entry_mtime(entry);
    newest = newest ? std::max(*newest, time) : time;
  }
}

}  // namespace kiln::dockerfile
