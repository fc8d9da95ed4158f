#include "store/archive/tar_writer.hpp"

#include <algorithm>
#include <cstring>
#include <iterator>

#include "store/archive/tar_layout.hpp"

namespace kiln::store {

namespace {

using namespace tar;

void put_text(block& b, field f, std::string_view text) { text.copy(b.data() + f.offset, f.width); }

/// Whether the number fits as octal digits with a terminating NUL.
bool fits(std::int64_t number, field f) {
  return number >= 0 && static_cast<std::uint64_t>(number) < std::uint64_t{1} << (3 * (f.width - 1));
}

void put_number(block& b, field f, std::int64_t number) {
  if (!fits(number, f)) number = 0;  // a pax record says it
  for (std::size_t i = f.width - 1; i-- > 0; number >>= 3)
    b[f.offset + i] = static_cast<char>('0' + (number & 7));
}

bool is_ascii_char(char c) { return c != '\0' && (static_cast<unsigned char>(c) & 0x80) == 0; }

bool is_ascii(std::string_view text) { return std::all_of(text.begin(), text.end(), is_ascii_char); }

/// What of a text a header can hold; the whole of it is in a record then.
std::string ascii_of(std::string_view text) {
  std::string out;
  std::copy_if(text.begin(), text.end(), std::back_inserter(out), is_ascii_char);
  return out;
}

/// A name cut short must not end with a slash: to some readers that is a directory.
void put_cut_text(block& b, field f, std::string_view text) {
  put_text(b, f, text);
  if (text.size() <= f.width || text[f.width - 1] != '/') return;
  auto last = text.substr(0, f.width - 1).find_last_not_of('/');
  b[f.offset + (last == std::string_view::npos ? 0 : last + 1)] = '\0';
}

/// Splits a long name at a slash into prefix and name.
bool split_name(std::string_view name, std::string_view& prefix, std::string_view& rest) {
  if (name.size() <= f_name.width) {
    prefix = {};
    rest = name;
    return true;
  }
  auto end = name.size() - (name.back() == '/' ? 1 : 0);
  auto slash = name.rfind('/', std::min(f_prefix.width, end - 1));
  if (slash == std::string_view::npos || slash == 0 || name.size() - slash - 1 > f_name.width) return false;
  prefix = name.substr(0, slash);
  rest = name.substr(slash + 1);
  return !rest.empty();
}

void put_magic(block& b) {
  put_text(b, f_magic, std::string_view("ustar\0", 6));
  put_text(b, f_version, "00");
}

void finish_header(block& b) {
  std::memset(b.data() + f_checksum.offset, ' ', f_checksum.width);
  unsigned sum = 0;
  for (char c : b) sum += static_cast<unsigned char>(c);
  for (int i = 5; i >= 0; --i, sum >>= 3)
    b[f_checksum.offset + static_cast<std::size_t>(i)] = static_cast<char>('0' + (sum & 7));
  b[f_checksum.offset + 6] = '\0';
}

std::string_view view(const block& b) { return {b.data(), b.size()}; }

}  // namespace

status tar_writer::header(const tar_entry& e) {
  std::string pax;
  auto number = [&pax](std::string_view key, std::int64_t value, field f) {
    if (!fits(value, f)) pax += pax_record(key, std::to_string(value));
  };
  // Sorted by key, so that equal entries give equal bytes.
  std::map<std::string, std::string> attributes;
  for (const auto& [key, value] : e.xattrs) attributes["SCHILY.xattr." + key] = value;
  for (const auto& [key, value] : attributes) {
    if (key.find('=') != std::string::npos) continue;  // cannot be written
    pax += pax_record(key, value);
  }
  number("gid", static_cast<std::int64_t>(e.gid), f_gid);
  if (e.link.size() > f_link.width || !is_ascii(e.link)) pax += pax_record("linkpath", e.link);
  if (e.mtime_ns != 0) {
    // Before 1970 the fraction counts backwards: -1.75 s is 0.25 s after -2 s.
    bool before = e.mtime < 0;
    auto fraction = std::to_string(1'000'000'000 + (before ? 1'000'000'000 - e.mtime_ns : e.mtime_ns));
    auto whole = before ? "-" + std::to_string(-(e.mtime + 1)) : std::to_string(e.mtime);
    pax += pax_record("mtime", whole + "." + fraction.substr(1));
  } else {
    number("mtime", e.mtime, f_mtime);
  }
  // Where there are records anyway, a long name is one of them.
  bool may_split = names_ == long_names::split && pax.empty() && fits(e.size, f_size) &&
                   fits(static_cast<std::int64_t>(e.uid), f_uid);
  std::string_view prefix, rest;
  bool name_fits =
      is_ascii(e.name) && (e.name.size() <= f_name.width || may_split) && split_name(e.name, prefix, rest);
  if (!name_fits) pax += pax_record("path", e.name);
  number("size", e.size, f_size);
  number("uid", static_cast<std::int64_t>(e.uid), f_uid);

  if (!pax.empty()) KILN_CHECK(pax_header(e.name, std::move(pax)));

  block b{};
  if (name_fits) {
    put_text(b, f_name, rest);
    put_text(b, f_prefix, prefix);
  } else {
    put_cut_text(b, f_name, ascii_of(e.name));
  }
  put_number(b, f_mode, e.mode);
  put_number(b, f_uid, static_cast<std::int64_t>(e.uid));
  put_number(b, f_gid, static_cast<std::int64_t>(e.gid));
  put_number(b, f_size, e.size);
  put_number(b, f_mtime, e.mtime);
  b[f_type.offset] = e.type;
  put_cut_text(b, f_link, ascii_of(e.link));
  put_magic(b);
  put_number(b, f_major, e.device_major);
  put_number(b, f_minor, e.device_minor);
  finish_header(b);
  left_ = e.size;
  padding_ =
      static_cast<std::size_t>((block_size - static_cast<std::uint64_t>(e.size) % block_size) % block_size);
  return out_.write(view(b));
}

/// An entry of records, about the one that follows.
status tar_writer::pax_header(const std::string& name, std::string records) {
  auto slash = name.rfind('/');
  auto shown = name.substr(0, slash == std::string::npos ? 0 : slash + 1) + "PaxHeaders.0/" +
               (slash == std::string::npos ? name : name.substr(slash + 1));
  shown = ascii_of(shown).substr(0, f_name.width);
  block b{};
  put_text(b, f_name, std::string_view(shown).substr(0, shown.find_last_not_of('/') + 1));
  for (auto f : {f_mode, f_uid, f_gid, f_mtime}) put_number(b, f, 0);
  put_number(b, f_size, static_cast<std::int64_t>(records.size()));
  put_text(b, f_type, "x");
  put_magic(b);
  finish_header(b);
  KILN_CHECK(out_.write(view(b)));
  records.resize(padded(records.size()), '\0');
  return out_.write(records);
}

status tar_writer::content(std::string_view bytes) {
  if (static_cast<std::int64_t>(bytes.size()) > left_)
    return make_error(errc::out_of_range, "a file grew while it was archived");
  left_ -= static_cast<std::int64_t>(bytes.size());
  return out_.write(bytes);
}

status tar_writer::end_entry() {
  if (left_ != 0) return make_error(errc::out_of_range, "a file shrank while it was archived");
  static constexpr block zeros{};
  if (padding_ == 0) return {};
  return out_.write({zeros.data(), std::exchange(padding_, 0)});
}

status tar_writer::finish() {
  static constexpr block zeros{};
  KILN_CHECK(out_.write(view(zeros)));
  return out_.write(view(zeros));
}

}  // namespace kiln::store
