#include "exporters/tar_writer.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

namespace kiln::exporters {
namespace {

constexpr std::size_t block_size = 512;

bool fits_octal(std::int64_t v, std::size_t digits) { return v >= 0 && (v >> (3 * digits)) == 0; }

/// A field of `length` bytes, zero terminated; false when the value does not fit.
bool put_octal(char* header, std::size_t at, std::size_t length, std::int64_t v) {
  if (!fits_octal(v, length - 1)) return false;
  char text[32];
  std::snprintf(text, sizeof text, "%0*llo", static_cast<int>(length - 1), static_cast<long long>(v));
  std::memcpy(header + at, text, length - 1);
  return true;
}

bool is_ascii(std::string_view s) {
  return std::all_of(s.begin(), s.end(), [](unsigned char c) { return c < 0x80; });
}

std::string pax_record(const std::string& key, const std::string& value) {
  std::size_t size = key.size() + value.size() + 3;
  std::size_t total = size + std::to_string(size).size();
  if (std::to_string(total).size() != std::to_string(size).size())
    total = size + std::to_string(total).size();
  return std::to_string(total) + " " + key + "=" + value + "\n";
}

/// The last slash that leaves both halves short enough for ustar; 0 when there is none.
std::size_t split_point(std::string_view name) {
  if (name.size() > 256) return 0;
  std::size_t from = std::min<std::size_t>(name.size() - 1, 155);
  for (std::size_t i = from; i > 0; --i)
    if (name[i] == '/' && name.size() - i - 1 <= 100 && name.size() - i - 1 > 0) return i;
  return 0;
}

std::string make_header(const tar_entry& e, std::string_view name, std::int64_t size, bool& fits) {
  std::string h(block_size, '\0');
  char* p = h.data();
  fits = true;
  if (name.size() <= 100) {
    std::memcpy(p, name.data(), name.size());
  } else if (std::size_t at = split_point(name); at > 0) {
    std::memcpy(p + 345, name.data(), at);
    std::memcpy(p, name.data() + at + 1, name.size() - at - 1);
  } else {
    fits = false;
    std::memcpy(p, name.data(), 100);
  }
  auto number = [&](std::size_t at, std::size_t length, std::int64_t v) {
    if (put_octal(p, at, length, v)) return;
    fits = false;
    put_octal(p, at, length, 0);
  };
  number(100, 8, e.mode & 07777);
  number(108, 8, e.uid);
  number(116, 8, e.gid);
  number(124, 12, size);
  std::int64_t seconds =
      e.mtime_ns >= 0 ? e.mtime_ns / 1'000'000'000 : -((-e.mtime_ns + 999'999'999) / 1'000'000'000);
  number(136, 12, seconds);
  p[156] = e.type;
  if (e.link.size() <= 100) std::memcpy(p + 157, e.link.data(), e.link.size());
  else fits = false, std::memcpy(p + 157, e.link.data(), 100);
  std::memcpy(p + 257, "ustar\00000", 8);
  if (e.type == '3' || e.type == '4') {
    number(329, 8, e.major);
    number(337, 8, e.minor);
  }
  std::memset(p + 148, ' ', 8);
  unsigned sum = 0;
  for (unsigned char c : h) sum += c;
  std::snprintf(p + 148, 8, "%06o", sum);
  p[155] = ' ';
  return h;
}

std::string time_text(std::int64_t ns) {
  bool negative = ns < 0;
  std::uint64_t v = negative ? 0 - static_cast<std::uint64_t>(ns) : static_cast<std::uint64_t>(ns);
  std::string out = (negative ? "-" : "") + std::to_string(v / 1'000'000'000);
  if (v % 1'000'000'000 == 0) return out;
  char fraction[16];
  std::snprintf(fraction, sizeof fraction, ".%09u", static_cast<unsigned>(v % 1'000'000'000));
  out += fraction;
  while (out.back() == '0') out.pop_back();
  return out;
}

std::string base_name(const std::string& name) {
  std::string_view s = name;
  while (s.ends_with('/')) s.remove_suffix(1);
  auto slash = s.rfind('/');
  return std::string(slash == s.npos ? s : s.substr(slash + 1));
}

}  // namespace

status tar_writer::begin(const tar_entry& e) {
  bool fits = false;
  std::string header = make_header(e, e.name, e.size, fits);
  std::string pax;
  bool fraction = e.mtime_ns % 1'000'000'000 != 0;
  if (!fits || fraction || !e.xattrs.empty() || !is_ascii(e.name) || !is_ascii(e.link)) {
    // Only what ustar cannot say; keys in order.
    if (!fits_octal(e.gid, 7)) pax += pax_record("gid", std::to_string(e.gid));
    if (e.link.size() > 100 || !is_ascii(e.link)) pax += pax_record("linkpath", e.link);
    if (fraction || e.mtime_ns < 0 || !fits_octal(e.mtime_ns / 1'000'000'000, 11))
      pax += pax_record("mtime", time_text(e.mtime_ns));
    if ((e.name.size() > 100 && split_point(e.name) == 0) || !is_ascii(e.name))
      pax += pax_record("path", e.name);
    for (const auto& [k, v] : e.xattrs) pax += pax_record("SCHILY.xattr." + k, v);
    if (!fits_octal(e.size, 11)) pax += pax_record("size", std::to_string(e.size));
    if (!fits_octal(e.uid, 7)) pax += pax_record("uid", std::to_string(e.uid));
  }
  if (!pax.empty()) {
    tar_entry x;
    x.type = 'x';
    std::string name = "PaxHeaders.0/" + base_name(e.name).substr(0, 80);
    std::string head = make_header(x, name, static_cast<std::int64_t>(pax.size()), fits);
    pax.resize((pax.size() + block_size - 1) / block_size * block_size);
    KILN_CHECK(out_.write(head));
    KILN_CHECK(out_.write(pax));
  }
  left_ = size_ = e.size;
  return out_.write(header);
}

status tar_writer::content(std::string_view bytes) {
  if (static_cast<std::int64_t>(bytes.size()) > left_)
    return make_error(errc::data_loss, "archive/tar: write too long");
  left_ -= static_cast<std::int64_t>(bytes.size());
  return out_.write(bytes);
}

status tar_writer::end() {
  if (left_ != 0)
    return make_error(errc::data_loss, "archive/tar: missed writing " + std::to_string(left_) + " bytes");
  std::size_t rest = static_cast<std::size_t>(size_ % static_cast<std::int64_t>(block_size));
  if (rest == 0) return {};
  return out_.write(std::string(block_size - rest, '\0'));
}

status tar_writer::add(const tar_entry& e, std::string_view bytes) {
  tar_entry sized = e;
  sized.size = static_cast<std::int64_t>(bytes.size());
  KILN_CHECK(begin(sized));
  KILN_CHECK(content(bytes));
  return end();
}

status tar_writer::add(const tar_entry& e, store::byte_source& source) {
  KILN_CHECK(begin(e));
  std::vector<char> buffer(256 << 10);
  for (;;) {
    KILN_TRY(std::size_t n, source.read(buffer));
    if (n == 0) break;
    auto s = content({buffer.data(), n});
    if (!s.ok()) return std::move(s).error().with_context(e.name);
  }
  auto s = end();
  if (!s.ok()) return std::move(s).error().with_context(e.name);
  return {};
}

status tar_writer::finish() { return out_.write(std::string(2 * block_size, '\0')); }

status write_tree(tar_writer& tar, filesync::file_tree& tree, std::stop_token stop) {
  namespace go_mode = filesync::go_mode;
  return tree.walk(
      [&](filesync::file_stat&& s) -> status {
        tar_entry e;
        e.name = s.path();
        e.mode = filesync::permission_bits(s.mode());
        e.uid = s.uid();
        e.gid = s.gid();
        e.mtime_ns = s.modtime();
        for (const auto& [k, v] : s.xattrs()) e.xattrs[k] = v;
        if (filesync::is_dir(s)) {
          e.type = '5';
          e.name += '/';
        } else if (filesync::is_symlink(s)) {
          e.type = '2';
          e.link = s.linkname();
        } else if (s.mode() & go_mode::device) {
          e.type = s.mode() & go_mode::char_device ? '3' : '4';
          e.major = s.devmajor();
          e.minor = s.devminor();
        } else if (s.mode() & go_mode::named_pipe) {
          e.type = '6';
        } else if (s.mode() & go_mode::socket) {
          return {};
        } else if (!s.linkname().empty()) {
          e.type = '1';
          e.link = s.linkname();
        } else {
          e.size = s.size();
          if (e.size == 0) return tar.add(e, std::string_view());
          KILN_TRY(auto content, tree.open(s.path()));
          return tar.add(e, *content);
        }
        return tar.add(e, std::string_view());
      },
      stop);
}

}  // namespace kiln::exporters
