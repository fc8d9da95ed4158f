#include "store/archive/tar_reader.hpp"

#include <algorithm>
#include <array>
#include <limits>

#include "base/numbers.hpp"
#include "configs/store.hpp"
#include "store/archive/tar_layout.hpp"

namespace kiln::store {

namespace {

using namespace tar;

// What other forms have in place of ustar's prefix. Source: GNU tar, "Basic Tar Format"; Go's archive/tar for
// star and for what is read of doubtful fields.
constexpr field f_star_prefix{345, 131}, f_star_atime{476, 12}, f_star_ctime{488, 12}, f_star_trailer{508, 4};
constexpr field f_gnu_atime{345, 12}, f_gnu_ctime{357, 12}, f_gnu_extended{482, 1}, f_gnu_real_size{483, 12};
// Entries of a sparse map are two numbers; in the header they begin here, in blocks of their own at the
// start.
constexpr std::size_t map_in_header = 386, map_entries_in_header = 4, map_entries_in_block = 21,
                      map_number = 12;

using namespace std::literals;
constexpr std::string_view xattr_prefix = "SCHILY.xattr.";

enum class dialect { none, v7, ustar, star, gnu };

error bad_header() { return make_error(errc::data_loss, "archive: invalid tar header"); }
error truncated() { return make_error(errc::data_loss, "archive: ends within an entry"); }

std::string_view text(std::span<const char> b, field f) { return until_nul(raw(b, f)); }

/// Puts what it reads where it belongs and remembers whether all of it could be read.
struct number_reader {
  std::span<const char> from;
  bool good = true;
  std::int64_t operator()(field f) {
    auto value = number(raw(from, f));
    good = good && value.has_value();
    return value.value_or(0);
  }
};

bool is_zero_block(const block& b) {
  return std::all_of(b.begin(), b.end(), [](char c) { return c == 0; });
}

bool checksum_holds(std::span<const char> b) {
  auto told = octal(raw(b, f_checksum));
  std::int64_t as_unsigned = 0, as_signed = 0;  // Sun's tar added signed bytes
  for (std::size_t i = 0; i < block_size; ++i) {
    bool own = i >= f_checksum.offset && i < f_checksum.offset + f_checksum.width;
    char c = own ? ' ' : b[i];
    as_unsigned += static_cast<unsigned char>(c);
    as_signed += static_cast<signed char>(c);
  }
  return told && (*told == as_unsigned || *told == as_signed);
}

dialect dialect_of(std::span<const char> b) {
  if (!checksum_holds(b)) return dialect::none;
  auto magic = raw(b, f_magic);
  if (magic == "ustar\0"sv) return raw(b, f_star_trailer) == "tar\0"sv ? dialect::star : dialect::ustar;
  if (magic == "ustar "sv && raw(b, f_version) == " \0"sv) return dialect::gnu;
  return dialect::v7;
}

bool is_ascii(std::string_view s) {
  return std::all_of(s.begin(), s.end(),
                     [](char c) { return c != '\0' && (static_cast<unsigned char>(c) & 0x80) == 0; });
}

result<tar_header> parse_header(const block& b) {
  auto how = dialect_of(b);
  if (how == dialect::none) return bad_header();
  tar_header out;
  number_reader numbers{b};
  out.type = b[f_type.offset];
  out.name = text(b, f_name);
  out.link = text(b, f_link);
  out.size = numbers(f_size);
  out.mode = numbers(f_mode);
  out.uid = numbers(f_uid);
  out.gid = numbers(f_gid);
  out.mtime.tv_sec = numbers(f_mtime);
  if (how == dialect::v7) {
    if (!numbers.good) return bad_header();
    return out;
  }
  out.device_major = numbers(f_major);
  out.device_minor = numbers(f_minor);
  std::string_view prefix;
  if (how == dialect::ustar) {
    prefix = text(b, f_prefix);
  } else if (how == dialect::star) {
    prefix = text(b, f_star_prefix);
    numbers(f_star_atime);
    numbers(f_star_ctime);
  } else {
    // Old versions of Go's writer put a prefix where GNU has times.
    number_reader times{b};
    for (auto f : {f_gnu_atime, f_gnu_ctime})
      if (b[f.offset] != 0) times(f);
    if (!times.good && is_ascii(text(b, f_prefix))) prefix = text(b, f_prefix);
  }
  if (!numbers.good) return bad_header();
  if (!prefix.empty()) out.name = std::string(prefix) + "/" + out.name;
  return out;
}

/// Links, directories and special files have no content, whatever their size field says.
bool has_content(char type) { return type < '1' || type > '6'; }

/// Takes the next "<length> <key>=<value>\n" off; false when there is none such.
bool take_record(std::string_view& rest, std::string& key, std::string& value) {
  auto space = rest.find(' ');
  if (space == std::string_view::npos) return false;
  auto length = parse_int(rest.substr(0, space));
  if (!length || *length < 5 || *length > static_cast<std::int64_t>(rest.size())) return false;
  auto record = rest.substr(0, static_cast<std::size_t>(*length));
  rest.remove_prefix(record.size());
  if (record.size() <= space + 1 || record.back() != '\n') return false;
  record = record.substr(space + 1, record.size() - space - 2);
  auto equals = record.find('=');
  if (equals == 0 || equals == std::string_view::npos) return false;
  key = record.substr(0, equals);
  value = record.substr(equals + 1);
  bool is_text = key == "path" || key == "linkpath" || key == "uname" || key == "gname";
  return (is_text ? value : key).find('\0') == std::string::npos;
}

/// "-1.75" and the like.
std::optional<struct timespec> pax_time(std::string_view text) {
  constexpr std::size_t digits = 9;
  auto dot = std::min(text.find('.'), text.size());
  auto whole = text.substr(0, dot), fraction = text.substr(std::min(dot + 1, text.size()));
  auto seconds = parse_int(whole);
  if (!seconds || !std::all_of(fraction.begin(), fraction.end(), [](char c) { return c >= '0' && c <= '9'; }))
    return std::nullopt;
  std::string nanoseconds(fraction.substr(0, digits));
  nanoseconds.resize(digits, '0');
  struct timespec out {};
  out.tv_sec = *seconds;
  out.tv_nsec = static_cast<long>(*parse_int(nanoseconds));
  if (whole[0] == '-' && out.tv_nsec != 0) {  // the fraction counts backwards
    if (out.tv_sec == std::numeric_limits<std::int64_t>::min()) return std::nullopt;
    --out.tv_sec;
    out.tv_nsec = 1'000'000'000 - out.tv_nsec;
  }
  return out;
}

/// What pax records say of the entry; an empty one says nothing.
status apply_pax(const std::map<std::string, std::string>& pax, tar_header& header) {
  for (const auto& [key, value] : pax) {
    if (key.starts_with(xattr_prefix)) header.xattrs[key.substr(xattr_prefix.size())] = value;
    if (value.empty()) continue;
    if (key == "path") {
      header.name = value;
    } else if (key == "linkpath") {
      header.link = value;
    } else if (key == "uid" || key == "gid" || key == "size") {
      auto n = parse_int(value);
      if (!n) return bad_header();
      (key == "uid" ? header.uid : key == "gid" ? header.gid : header.size) = *n;
    } else if (key == "mtime" || key == "atime" || key == "ctime") {
      auto time = pax_time(value);
      if (!time) return bad_header();
      if (key == "mtime") header.mtime = *time;
    }
  }
  return {};
}

std::string value_of(const std::map<std::string, std::string>& pax, const char* key) {
  auto found = pax.find(key);
  return found == pax.end() ? std::string() : found->second;
}

}  // namespace

tar_reader::tar_reader(byte_source& in) : in_(in), buffer_(limits::copy_buffer) {}

/// More bytes, if there are none left; false at the end.
result<bool> tar_reader::fill() {
  if (begin_ < end_) return true;
  KILN_TRY(auto count, in_.read(buffer_));
  begin_ = 0;
  end_ = count;
  return count > 0;
}

/// Fills `into` as far as there are bytes.
result<std::size_t> tar_reader::take(std::span<char> into) {
  std::size_t done = 0;
  while (done < into.size()) {
    KILN_TRY(bool more, fill());
    if (!more) break;
    auto count = std::min(end_ - begin_, into.size() - done);
    std::copy_n(buffer_.begin() + static_cast<std::ptrdiff_t>(begin_), count,
                into.begin() + static_cast<std::ptrdiff_t>(done));
    begin_ += count;
    done += count;
  }
  return done;
}

/// To the next header. That the last block is not filled is no fault of an archive that ends there.
status tar_reader::skip_rest() {
  while (stored_ > 0) {
    KILN_TRY(bool more, fill());
    if (!more) return truncated();
    auto count = std::min(static_cast<std::int64_t>(end_ - begin_), stored_);
    begin_ += static_cast<std::size_t>(count);
    stored_ -= count;
  }
  block ignored;
  auto skipped = take(std::span(ignored).first(padding_));
  padding_ = 0;
  return skipped.ok() ? status{} : status(std::move(skipped).error());
}

void tar_reader::begin_content(const tar_header& header) {
  stored_ = has_content(header.type) ? header.size : 0;
  padding_ =
      static_cast<std::size_t>((block_size - static_cast<std::uint64_t>(stored_) % block_size) % block_size);
  extents_ = {{0, stored_}};
  extent_ = 0;
}

/// The whole content of an entry that tells of the next one.
result<std::string> tar_reader::special_content() {
  std::string out;
  while (true) {
    KILN_TRY(auto next, data());
    if (!next) return out;
    out += next->bytes;
    if (out.size() > limits::archive_special)
      return make_error(errc::data_loss, "archive: tar header field too long");
  }
}

result<tar_reader::pax_records> tar_reader::read_pax() {
  KILN_TRY(auto content, special_content());
  pax_records out;
  std::string key, value, map;
  std::size_t numbers = 0;
  for (std::string_view rest = content; !rest.empty();) {
    if (!take_record(rest, key, value)) return bad_header();
    // The first form of sparse maps repeats keys: it becomes the second.
    bool is_offset = key == "GNU.sparse.offset";
    if (!is_offset && key != "GNU.sparse.numbytes") {
      out[key] = value;
      continue;
    }
    if (is_offset != (numbers++ % 2 == 0) || value.find(',') != std::string::npos) return bad_header();
    map += (map.empty() ? "" : ",") + value;
  }
  if (numbers > 0) out["GNU.sparse.map"] = map;
  return out;
}

result<std::optional<tar_header>> tar_reader::next() {
  pax_records pax;
  std::string long_name, long_link;
  while (true) {
    KILN_CHECK(skip_rest());
    block b;
    for (int zero_blocks = 0;; ++zero_blocks) {
      KILN_TRY(auto count, take(b));
      if (count == 0) return std::optional<tar_header>();
      if (count < block_size) return truncated();
      if (!is_zero_block(b)) {
        if (zero_blocks > 0) return bad_header();
        break;
      }
      if (zero_blocks > 0) return std::optional<tar_header>();
    }
    KILN_TRY(auto header, parse_header(b));
    if (has_content(header.type) && header.size < 0) return bad_header();
    begin_content(header);
    switch (header.type) {
      case 'x': {
        KILN_TRY(pax, read_pax());
        continue;
      }
      case 'g': {
        KILN_TRY(auto ignored, read_pax());
        return std::optional(std::move(header));
      }
      case 'L':
      case 'K': {
        KILN_TRY(auto content, special_content());
        (header.type == 'L' ? long_name : long_link) = until_nul(content);
        continue;
      }
      default: break;
    }
    KILN_CHECK(apply_pax(pax, header));
    if (!long_name.empty()) header.name = long_name;
    if (!long_link.empty()) header.link = long_link;
    // Before ustar a directory was a file whose name ends with a slash; since then it is not.
    if (header.type == '\0') header.type = header.name.ends_with('/') ? '5' : '0';
    if (has_content(header.type) && header.size < 0) return bad_header();
    begin_content(header);
    KILN_CHECK(read_sparse_map(header, b, pax));
    return std::optional(std::move(header));
  }
}

status tar_reader::read_sparse_map(tar_header& header, std::span<char> b, const pax_records& pax) {
  if (header.type == 'S') {
    KILN_CHECK(read_old_map(header, b));
  } else {
    auto major = value_of(pax, "GNU.sparse.major"), minor = value_of(pax, "GNU.sparse.minor");
    auto map = value_of(pax, "GNU.sparse.map");
    bool in_content = major == "1" && minor == "0";
    bool in_records =
        (major == "0" && (minor == "0" || minor == "1")) || (major.empty() && minor.empty() && !map.empty());
    if (!in_content && !in_records) return {};
    if (auto name = value_of(pax, "GNU.sparse.name"); !name.empty()) header.name = name;
    auto size = value_of(pax, "GNU.sparse.size");
    if (size.empty()) size = value_of(pax, "GNU.sparse.realsize");
    if (!size.empty()) {
      auto n = parse_int(size);
      if (!n) return bad_header();
      header.size = *n;
    }
    if (in_content) {
      KILN_CHECK(read_map_in_content());
    } else {
      auto count = parse_int(value_of(pax, "GNU.sparse.numblocks"));
      std::vector<std::int64_t> numbers;
      for (std::string_view rest = map; !rest.empty();) {
        auto comma = rest.find(',');
        auto n = parse_int(rest.substr(0, comma));
        if (!n || comma == rest.size() - 1) return bad_header();
        numbers.push_back(*n);
        rest = comma == std::string_view::npos ? std::string_view() : rest.substr(comma + 1);
      }
      if (!count || numbers.size() % 2 != 0 || *count != static_cast<std::int64_t>(numbers.size() / 2))
        return bad_header();
      extents_.clear();
      for (std::size_t i = 0; i < numbers.size(); i += 2) extents_.push_back({numbers[i], numbers[i + 1]});
    }
  }
  if (!has_content(header.type) || header.size < 0) return bad_header();
  std::int64_t end = 0;
  for (const auto& e : extents_) {
    if (e.at < end || e.size < 0 || e.at > header.size - e.size) return bad_header();
    end = e.at + e.size;
  }
  return {};
}

/// GNU's first form: four entries in the header, more in blocks that follow and do not count as content.
status tar_reader::read_old_map(tar_header& header, std::span<char> b) {
  if (dialect_of(b) != dialect::gnu) return bad_header();
  auto real_size = number(raw(b, f_gnu_real_size));
  if (!real_size) return bad_header();
  header.size = *real_size;
  extents_.clear();
  std::size_t at = map_in_header, entries = map_entries_in_header;
  bool extended = b[f_gnu_extended.offset] != 0;
  for (std::size_t read = 0; read < limits::archive_special; read += block_size) {
    for (std::size_t i = 0; i < entries; ++i, at += 2 * map_number) {
      if (b[at] == 0) break;
      auto offset = number(raw(b, {at, map_number})), size = number(raw(b, {at + map_number, map_number}));
      if (!offset || !size) return bad_header();
      extents_.push_back({*offset, *size});
    }
    if (!extended) return {};
    KILN_TRY(auto count, take(b));
    if (count < block_size) return truncated();
    at = 0;
    entries = map_entries_in_block;
    extended = b[2 * map_number * map_entries_in_block] != 0;
  }
  return make_error(errc::data_loss, "archive: sparse map too long");
}

/// The last form: decimal lines at the content's start, filled up to a whole block.
status tar_reader::read_map_in_content() {
  std::string lines;
  std::size_t used = 0, read = 0;
  auto line = [&]() -> result<std::int64_t> {
    auto end = lines.find('\n', used);
    while (end == std::string::npos) {
      if ((read += block_size) > limits::archive_special)
        return make_error(errc::data_loss, "archive: sparse map too long");
      block b;
      if (stored_ < static_cast<std::int64_t>(block_size)) return truncated();
      KILN_TRY(auto count, take(b));
      if (count < block_size) return truncated();
      stored_ -= static_cast<std::int64_t>(block_size);
      auto from = lines.size();
      lines.append(b.data(), b.size());
      end = lines.find('\n', from);
    }
    auto n = parse_int(std::string_view(lines).substr(used, end - used));
    used = end + 1;
    if (!n) return bad_header();
    return *n;
  };
  KILN_TRY(auto count, line());
  if (count < 0 || count > static_cast<std::int64_t>(limits::archive_special)) return bad_header();
  extents_.clear();
  for (std::int64_t i = 0; i < count; ++i) {
    extent e;
    KILN_TRY(e.at, line());
    KILN_TRY(e.size, line());
    extents_.push_back(e);
  }
  return {};
}

result<std::optional<tar_reader::piece>> tar_reader::data() {
  while (extent_ < extents_.size() && extents_[extent_].size == 0) ++extent_;
  if (extent_ == extents_.size()) {
    if (stored_ > 0)
      return make_error(errc::data_loss, "archive: a sparse file has more data than its map tells of");
    return std::optional<piece>();
  }
  if (stored_ == 0)
    return make_error(errc::data_loss, "archive: a sparse file has less data than its map tells of");
  KILN_TRY(bool more, fill());
  if (!more) return truncated();
  auto& e = extents_[extent_];
  auto count = std::min({static_cast<std::int64_t>(end_ - begin_), e.size, stored_});
  piece out{e.at, {buffer_.data() + begin_, static_cast<std::size_t>(count)}};
  begin_ += static_cast<std::size_t>(count);
  e.at += count;
  e.size -= count;
  stored_ -= count;
  return std::optional(out);
}

}  // namespace kiln::store
