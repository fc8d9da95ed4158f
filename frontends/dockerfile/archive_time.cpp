#include "frontends/dockerfile/archive_time.hpp"

#include <algorithm>
#include <memory>
#include <string>

#include "store/archive/codec.hpp"
#include "store/archive/tar_reader.hpp"

namespace kiln::dockerfile {

std::optional<std::int64_t> newest_in_archive(std::string_view bytes) {
  store::decompress_options options;
  options.archives = true;
  auto plain = store::make_decompressor(std::make_unique<store::text_source>(std::string(bytes)), options);
  store::tar_reader reader(*plain);
  std::optional<std::int64_t> newest;
  for (;;) {
    auto entry = reader.next();
    if (!entry.ok()) return std::nullopt;
    if (!entry->has_value()) return newest;
    const auto& header = **entry;
    if (header.type != '0' && header.type != 'S') continue;
    newest = newest ? std::max<std::int64_t>(*newest, header.mtime.tv_sec) : header.mtime.tv_sec;
  }
}

}  // namespace kiln::dockerfile
