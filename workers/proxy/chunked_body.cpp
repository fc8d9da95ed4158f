#include "workers/proxy/chunked_body.hpp"

#include <algorithm>
#include <charconv>

#include "configs/proxy.hpp"
#include "workers/proxy/http_head.hpp"

namespace kiln::workers::proxy {

namespace {

error malformed(const char* what) { return make_error(errc::invalid_argument, what); }

}  // namespace

result<bool> chunked_body::line(std::string_view& in, std::size_t bytes_max) {
  auto end = in.find('\n');
  auto count = end == in.npos ? in.size() : end + 1;
  if (line_.size() + count > bytes_max + 2) return malformed("a line between chunks that is too long");
  line_ += in.substr(0, count);
  in.remove_prefix(count);
  if (end == in.npos) return false;
  if (!line_.ends_with("\r\n")) return malformed("a line between chunks that ends in other than CR LF");
  line_.resize(line_.size() - 2);
  if (line_.find_first_of(std::string_view("\r\0", 2)) != line_.npos)
    return malformed("control characters in a line between chunks");
  return true;
}

status chunked_body::begin_chunk() {
  std::string_view size(line_);
  auto extension = size.find(';');
  if (extension != size.npos) {
    if (!is_field_value(size.substr(extension))) return malformed("control characters in a chunk's size");
    size = size.substr(0, extension);
    while (size.ends_with(' ') || size.ends_with('\t')) size.remove_suffix(1);
  }
  constexpr std::size_t digits_max = 15;  // no honest chunk needs more, and no sum overflows
  std::uint64_t value = 0;
  auto [end, failed] = std::from_chars(size.data(), size.data() + size.size(), value, 16);
  if (size.empty() || size.size() > digits_max || failed != std::errc{} || end != size.data() + size.size())
    return malformed("a chunk whose size is no number");
  left_ = value;
  at_ = left_ == 0 ? place::trailer : place::data;
  return {};
}

result<bool> chunked_body::take(std::string_view& in, std::string& out, std::size_t room) {
  namespace cfg = configs::proxy;
  while (at_ != place::end && !in.empty()) {
    if (at_ == place::data) {
      auto count = static_cast<std::size_t>(std::min<std::uint64_t>({left_, in.size(), room}));
      if (count == 0) return false;
      out += in.substr(0, count);
      in.remove_prefix(count);
      room -= count;
      left_ -= count;
      if (left_ == 0) at_ = place::data_end;
      continue;
    }
    KILN_TRY(auto whole, line(in, cfg::chunk_line_bytes_max));
    if (!whole) return false;
    if (at_ == place::size) {
      KILN_CHECK(begin_chunk());
    } else if (at_ == place::data_end) {
      if (!line_.empty()) return malformed("a chunk that is longer than its size");
      at_ = place::size;
    } else if (line_.empty()) {
      at_ = place::end;
    } else if ((trailer_bytes_ += line_.size()) > cfg::head_bytes_max) {
      return malformed("headers after the body that are too large");
    }
    line_.clear();
  }
  return done();
}

}  // namespace kiln::workers::proxy
