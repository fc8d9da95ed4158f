#include "exporters/tar_times.hpp"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>

#include "configs/exporters.hpp"
#include "store/archive/tar_layout.hpp"

namespace kiln::exporters {
namespace {

using namespace store::tar;

error bad(const char* why) { return make_error(errc::data_loss, std::string("tar: ") + why); }

void put_octal(std::string& header, field f, std::uint64_t value) {
  char text[32];
  std::snprintf(text, sizeof text, "%0*llo", static_cast<int>(f.width - 1),
                static_cast<unsigned long long>(value));
  std::memcpy(header.data() + f.offset, text, f.width - 1);
  header[f.offset + f.width - 1] = '\0';
}

void sign(std::string& header) {
  std::memset(header.data() + f_checksum.offset, ' ', f_checksum.width);
  unsigned sum = 0;
  for (unsigned char c : header) sum += c;
  char text[16];
  std::snprintf(text, sizeof text, "%06o", sum);
  std::memcpy(header.data() + f_checksum.offset, text, 6);
  header[f_checksum.offset + 6] = '\0';
  header[f_checksum.offset + 7] = ' ';
}

}  // namespace

status tar_time_clamp::write(std::string_view bytes) {
  while (!bytes.empty()) {
    if (in_pax_) {
      std::size_t n = static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), pax_left_));
      pax_ += bytes.substr(0, n);
      pax_left_ -= n;
      bytes.remove_prefix(n);
      if (pax_left_ == 0) KILN_CHECK(pax());
    } else if (body_left_ > 0) {
      std::size_t n = static_cast<std::size_t>(std::min<std::uint64_t>(bytes.size(), body_left_));
      KILN_CHECK(out_.write(bytes.substr(0, n)));
      body_left_ -= n;
      bytes.remove_prefix(n);
    } else {
      std::size_t n = std::min(bytes.size(), block_size - header_.size());
      header_ += bytes.substr(0, n);
      bytes.remove_prefix(n);
      if (header_.size() < block_size) break;
      std::string header = std::move(header_);
      header_.clear();
      KILN_CHECK(block(header));
    }
  }
  return {};
}

status tar_time_clamp::block(std::string& header) {
  if (header.find_first_not_of('\0') == std::string::npos)
    return out_.write(header);  // the end of the archive
  auto size = number(raw(header, f_size));
  if (!size || *size < 0) return bad("bad size in header");
  auto whole = padded(static_cast<std::uint64_t>(*size));
  char type = header[f_type.offset];
  if (type == 'x' || type == 'g') {
    if (whole > configs::max_pax_header) return bad("extended header is too large");
    in_pax_ = true;
    pax_header_ = header;
    pax_.clear();
    pax_left_ = whole;
    pax_size_ = static_cast<std::uint64_t>(*size);
    return whole == 0 ? pax() : status();
  }
  if (number(raw(header, f_mtime)).value_or(0) > epoch_) {
    put_octal(header, f_mtime, static_cast<std::uint64_t>(std::max<std::int64_t>(epoch_, 0)));
    sign(header);
  }
  // Links and special files have no content, whatever their size field says.
  body_left_ = type >= '1' && type <= '6' ? 0 : whole;
  return out_.write(header);
}

status tar_time_clamp::pax() {
  in_pax_ = false;
  std::string out;
  std::string_view rest(pax_.data(), pax_size_);
  while (!rest.empty()) {
    std::size_t n = 0;
    auto [end, ec] = std::from_chars(rest.data(), rest.data() + rest.size(), n);
    if (ec != std::errc() || n == 0 || n > rest.size() || end == rest.data() + rest.size() || *end != ' ' ||
        rest[n - 1] != '\n')
      return bad("bad record in extended header");
    std::string_view record(end + 1, rest.data() + n - 1);
    std::size_t equal = record.find('=');
    if (equal == record.npos) return bad("bad record in extended header");
    std::string key(record.substr(0, equal)), value(record.substr(equal + 1));
    if (key == "mtime" || key == "atime" || key == "ctime") {
      // Seconds and a fraction: newer than the epoch when the seconds are, or equal with a fraction.
      std::int64_t seconds = 0;
      auto [stop, error] = std::from_chars(value.data(), value.data() + value.size(), seconds);
      bool fraction = error == std::errc() && stop != value.data() + value.size();
      if (error == std::errc() && (seconds > epoch_ || (seconds == epoch_ && fraction)))
        value = std::to_string(epoch_);
    }
    out += pax_record(key, value);
    rest.remove_prefix(n);
  }
  put_octal(pax_header_, f_size, out.size());
  if (number(raw(pax_header_, f_mtime)).value_or(0) > epoch_)
    put_octal(pax_header_, f_mtime, static_cast<std::uint64_t>(std::max<std::int64_t>(epoch_, 0)));
  sign(pax_header_);
  out.resize(padded(out.size()));
  KILN_CHECK(out_.write(pax_header_));
  return out_.write(out);
}

status tar_time_clamp::finish() {
  if (in_pax_ || body_left_ > 0 || !header_.empty()) return bad("archive is truncated");
  return {};
}

}  // namespace kiln::exporters
