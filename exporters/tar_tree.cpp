#include "exporters/tar_tree.hpp"

#include <string>
#include <vector>

#include "configs/exporters.hpp"

namespace kiln::exporters {

namespace go_mode = filesync::go_mode;

status add_entry(store::tar_writer& tar, store::tar_entry entry, std::string_view bytes) {
  entry.size = static_cast<std::int64_t>(bytes.size());
  KILN_CHECK(tar.header(entry));
  if (!bytes.empty()) KILN_CHECK(tar.content(bytes));
  return tar.end_entry();
}

status add_entry(store::tar_writer& tar, const store::tar_entry& entry, store::byte_source& source) {
  KILN_CHECK(tar.header(entry));
  std::vector<char> buffer(configs::export_buffer_size);
  std::int64_t left = entry.size;
  for (;;) {
    KILN_TRY(std::size_t n, source.read(buffer));
    if (n == 0) break;
    left -= static_cast<std::int64_t>(n);
    if (left < 0) break;
    KILN_CHECK(tar.content({buffer.data(), n}));
  }
  if (left != 0) return make_error(errc::data_loss, entry.name + ": size changed while it was read");
  return tar.end_entry();
}

namespace {

/// To the nearest, halves up: what Go's tar writer makes of times whose fraction it does not write.
std::int64_t nearest_second(std::int64_t nanoseconds) {
  constexpr std::int64_t second = 1'000'000'000;
  auto whole = nanoseconds / second, rest = nanoseconds % second;
  if (rest < 0) {
    rest += second;
    --whole;
  }
  return rest * 2 >= second ? whole + 1 : whole;
}

}  // namespace

status write_tree(store::tar_writer& tar, filesync::file_tree& tree, std::stop_token stop) {
  return tree.walk(
      [&](filesync::file_stat&& s) -> status {
        store::tar_entry e;
        e.name = s.path();
        e.mode = filesync::permission_bits(s.mode());
        e.uid = s.uid();
        e.gid = s.gid();
        e.mtime = nearest_second(s.modtime());
        for (const auto& [k, v] : s.xattrs()) e.xattrs[k] = v;
        if (filesync::is_dir(s)) {
          e.type = '5';
          e.name += '/';
        } else if (filesync::is_symlink(s)) {
          e.type = '2';
          e.link = s.linkname();
        } else if (s.mode() & go_mode::device) {
          e.type = s.mode() & go_mode::char_device ? '3' : '4';
          e.device_major = static_cast<std::uint32_t>(s.devmajor());
          e.device_minor = static_cast<std::uint32_t>(s.devminor());
        } else if (s.mode() & go_mode::named_pipe) {
          e.type = '6';
        } else if (s.mode() & go_mode::socket) {
          return {};
        } else if (!s.linkname().empty()) {
          e.type = '1';
          e.link = s.linkname();
        } else if (s.size() > 0) {
          e.size = s.size();
          KILN_TRY(auto content, tree.open(s.path()));
          return add_entry(tar, e, *content);
        }
        return add_entry(tar, e);
      },
      stop);
}

}  // namespace kiln::exporters
