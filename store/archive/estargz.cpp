#include "store/archive/estargz.hpp"

#include <algorithm>
#include <limits>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include <spdlog/fmt/fmt.h>

#include "base/base64.hpp"
#include "base/json_text.hpp"
#include "base/numbers.hpp"
#include "base/slash_path.hpp"
#include "base/time_text.hpp"
#include "configs/codec.hpp"
#include "store/archive/codec_parts.hpp"
#include "store/archive/sinks.hpp"
#include "store/archive/tar_layout.hpp"
#include "store/archive/tar_reader.hpp"
#include "store/archive/tar_writer.hpp"

namespace kiln::store {
namespace {

using namespace std::literals;

constexpr const char* table_name = "stargz.index.json";
constexpr tar::field f_user{265, 32}, f_group{297, 32};
// A gzip member without content, whose extra field "SG" is the offset in 16 hexadecimal digits and "STARGZ".
constexpr auto footer_head = "\x1f\x8b\x08\x04\0\0\0\0\0\xff\x1a\0SG\x16\0"sv;
constexpr auto footer_tail = "STARGZ\x01\0\0\xff\xff\0\0\0\0\0\0\0\0"sv;
constexpr std::size_t footer_digits = 16;
static_assert(footer_head.size() + footer_digits + footer_tail.size() == estargz_footer_size);

error bad(const std::string& why) { return make_error(errc::data_loss, "tar: " + why); }
error unfit(const std::string& why) { return make_error(errc::invalid_argument, "estargz: " + why); }

/// Rounded to seconds; empty for none.
std::string time_of(const timespec& t) {
  if (t.tv_sec == 0) return {};
  return format_rfc3339_seconds(t.tv_sec + (t.tv_nsec >= 500'000'000 ? 1 : 0));
}

/// JSON as Go's MarshalIndent writes it with tabs. Lines begin in no string: these have no line ends in them.
std::string tabbed(const nlohmann::ordered_json& document) {
  auto spaced = go_json(document, 1);
  std::string out;
  out.reserve(spaced.size());
  bool margin = true;
  for (char c : spaced) {
    margin = c == '\n' || (margin && c == ' ');
    out += margin && c == ' ' ? '\t' : c;
  }
  return out;
}

/// A line of the table. Members of the JSON are in this order; what is empty or 0 is left out.
struct table_entry {
  std::string name;
  const char* type = "";
  std::int64_t size = 0;
  std::string time, link;
  std::int64_t mode = 0, uid = 0, gid = 0;
  std::string user, group;
  std::optional<std::size_t> member;  // in which the content begins
  std::int64_t major = 0, minor = 0;
  std::map<std::string, std::string> xattrs = {};
  std::string digest;  // of the file
  std::int64_t chunk_offset = 0, chunk_size = 0;
  std::string chunk_digest;

  nlohmann::ordered_json json(const std::vector<std::int64_t>& members) const {
    nlohmann::ordered_json j{{"name", name}, {"type", type}};
    auto number = [&](const char* key, std::int64_t value) {
      if (value != 0) j[key] = value;
    };
    auto text = [&](const char* key, const std::string& value) {
      if (!value.empty()) j[key] = value;
    };
    number("size", size);
    text("modtime", time);
    text("linkName", link);
    number("mode", mode);
    number("uid", uid);
    number("gid", gid);
    text("userName", user);
    text("groupName", group);
    if (member) number("offset", members.at(*member));
    number("devMajor", major);
    number("devMinor", minor);
    if (!xattrs.empty()) {
      auto values = nlohmann::ordered_json::object();
      for (const auto& [key, value] : xattrs) values[key] = base64_encode(value);
      j["xattrs"] = std::move(values);
    }
    text("digest", digest);
    number("chunkOffset", chunk_offset);
    number("chunkSize", chunk_size);
    text("chunkDigest", chunk_digest);
    return j;
  }
};

}  // namespace

class estargz_writer::state {
 public:
  state(int level, byte_sink& out, unsigned threads)
      : out_(out), members_(make_gzip_writer(level, out, threads)), plain_(*members_) {}

  status write(std::string_view bytes) {
    while (!bytes.empty()) {
      std::size_t used = 0;
      if (ended_) {
        used = bytes.size();
        KILN_CHECK(plain_.write(bytes));
      } else if (content_left_ > 0) {
        used = upto(bytes, std::min(content_left_, chunk_left_));
        KILN_CHECK(content(bytes.substr(0, used)));
      } else if (padding_left_ > 0) {
        used = upto(bytes, padding_left_);
        padding_left_ -= static_cast<std::int64_t>(used);
        KILN_CHECK(plain_.write(bytes.substr(0, used)));
      } else if (special_left_ > 0) {
        used = upto(bytes, special_left_);
        special_left_ -= static_cast<std::int64_t>(used);
        heads_ += bytes.substr(0, used);
      } else {
        used = std::min(bytes.size(), tar::block_size - block_.size());
        block_ += bytes.substr(0, used);
        if (block_.size() == tar::block_size) KILN_CHECK(head());
      }
      bytes.remove_prefix(used);
    }
    return {};
  }

  status finish() {
    if (content_left_ > 0 || padding_left_ > 0 || special_left_ > 0 || !block_.empty() || !heads_.empty())
      return bad("archive is truncated");
    KILN_TRY(auto table_member, members_->cut(gzip_writer::length::any));  // readers look into one only
    KILN_CHECK(members_->drain());
    nlohmann::ordered_json table{{"version", 1}, {"entries", nullptr}};
    for (const auto& e : entries_) table["entries"].push_back(e.json(members_->members()));
    auto text = tabbed(table);
    tar_writer tar(plain_);
    KILN_CHECK(tar.header({.name = table_name, .size = static_cast<std::int64_t>(text.size())}));
    KILN_CHECK(tar.content(text));
    KILN_CHECK(tar.end_entry());
    KILN_CHECK(tar.finish());
    KILN_CHECK(members_->finish());
    summary_ = {plain_.sum(), sha256(text), plain_.size()};
    std::string footer(footer_head);
    footer += fmt::format("{:016x}", members_->members().at(table_member));
    footer += footer_tail;
    return out_.write(footer);
  }

  const estargz_summary& summary() const { return summary_; }

 private:
  static std::size_t upto(std::string_view bytes, std::int64_t left) {
    return static_cast<std::size_t>(std::min<std::int64_t>(left, static_cast<std::int64_t>(bytes.size())));
  }

  /// A block that is no content is complete.
  status head() {
    auto block = std::exchange(block_, {});
    if (heads_.empty() && block.find_first_not_of('\0') == block.npos) {
      ended_ = true;  // the rest is passed on as it is
      return plain_.write(block);
    }
    heads_ += block;
    char type = block[tar::f_type.offset];
    if (type != 'x' && type != 'g' && type != 'L' && type != 'K') return begin_entry(block);
    auto size = tar::number(tar::raw(block, tar::f_size));
    if (!size || *size < 0) return bad("bad size in header");
    if (heads_.size() + static_cast<std::uint64_t>(*size) > configs::estargz_headers_max)
      return bad("extended headers are too large");
    special_left_ = tar::padded(*size);
    return {};
  }

  /// All headers of an entry are there: `last` is the entry's own.
  status begin_entry(const std::string& last) {
    text_source in(heads_);
    tar_reader reader(in);
    KILN_TRY(auto header, reader.next());
    if (!header) return bad("headers without an entry");
    const auto& h = *header;
    if (clean_absolute(h.name) == "/"s + table_name)
      return unfit("the archive has a table already; decompress the layer before");
    KILN_CHECK(plain_.write(heads_));
    heads_.clear();
    table_entry e;
    e.name = h.name;
    e.time = time_of(h.mtime);
    e.mode = h.mode;
    e.uid = h.uid;
    e.gid = h.gid;
    e.user = changed(users_, h.uid, last, f_user);
    e.group = changed(groups_, h.gid, last, f_group);
    e.xattrs = h.xattrs;
    switch (h.type) {
      case '0': e.type = "reg"; break;
      case '1': e.type = "hardlink"; break;
      case '2': e.type = "symlink"; break;
      case '3': e.type = "char"; break;
      case '4': e.type = "block"; break;
      case '5': e.type = "dir"; break;
      case '6': e.type = "fifo"; break;
      default: return unfit("entry " + h.name + " of type \"" + std::string(1, h.type) + "\"");
    }
    if (h.type == '1' || h.type == '2') e.link = h.link;
    if (h.type == '3' || h.type == '4') {
      e.major = h.device_major;
      e.minor = h.device_minor;
    }
    if (h.type == '0') {
      e.size = h.size;
      file_ = entries_.size();
      content_left_ = h.size;
      padding_left_ = tar::padded(h.size) - h.size;
      if (h.size == 0) e.digest = sha256("").str();
    }
    entries_.push_back(std::move(e));
    return h.type == '0' && h.size > 0 ? begin_chunk(0) : status();
  }

  status begin_chunk(std::int64_t at) {
    if (at > 0) {
      table_entry more;
      more.name = entries_[file_].name;
      more.type = "chunk";
      entries_.push_back(std::move(more));
    }
    auto& e = entries_.back();
    KILN_TRY(e.member, members_->cut());
    e.chunk_offset = at;
    chunk_left_ = std::min(content_left_, configs::estargz_chunk_size);
    if (content_left_ >= configs::estargz_chunk_size) e.chunk_size = chunk_left_;
    return {};
  }

  status content(std::string_view bytes) {
    file_hash_.update(bytes);
    chunk_hash_.update(bytes);
    KILN_CHECK(plain_.write(bytes));
    content_left_ -= static_cast<std::int64_t>(bytes.size());
    chunk_left_ -= static_cast<std::int64_t>(bytes.size());
    if (chunk_left_ > 0) return {};
    entries_.back().chunk_digest = chunk_hash_.finish().str();
    if (content_left_ > 0) return begin_chunk(entries_[file_].size - content_left_);
    entries_[file_].digest = file_hash_.finish().str();
    return {};
  }

  /// A name stands with the first of its id, and where it changes.
  static std::string changed(std::map<std::int64_t, std::string>& known, std::int64_t id,
                             const std::string& header, tar::field f) {
    std::string name(tar::until_nul(tar::raw(header, f)));
    if (name.empty() || known[id] == name) return {};
    return known[id] = name;
  }

  byte_sink& out_;
  std::unique_ptr<gzip_writer> members_;
  hashing_sink plain_;
  bool ended_ = false;
  std::string block_;              // being collected
  std::string heads_;              // headers of the entry that begins
  std::int64_t special_left_ = 0;  // bytes of an extended header's content and padding
  std::size_t file_ = 0;           // the entry whose content passes
  std::int64_t content_left_ = 0, chunk_left_ = 0, padding_left_ = 0;
  sha256_hasher file_hash_, chunk_hash_;
  std::vector<table_entry> entries_;
  std::map<std::int64_t, std::string> users_, groups_;
  estargz_summary summary_;
};

estargz_writer::estargz_writer(std::optional<int> level, byte_sink& out, unsigned threads) {
  if (threads == 0) threads = std::max(1u, std::thread::hardware_concurrency());
  state_ = std::make_unique<state>(std::clamp(level.value_or(configs::gzip_default_level), 0, 9), out,
                                   std::min(threads, configs::compress_max_threads));
}
estargz_writer::~estargz_writer() = default;

status estargz_writer::write(std::string_view bytes) { return state_->write(bytes); }
status estargz_writer::finish() { return state_->finish(); }
const estargz_summary& estargz_writer::summary() const { return state_->summary(); }

std::optional<std::int64_t> estargz_table_offset(std::string_view footer) {
  if (footer.size() < estargz_footer_size) return {};
  footer = footer.substr(footer.size() - estargz_footer_size);
  // Flags, time and system of the member are its writer's business.
  if (!footer.starts_with("\x1f\x8b\x08\x04"sv) || footer.substr(10, 6) != footer_head.substr(10)) return {};
  auto digits = footer.substr(footer_head.size(), footer_digits);
  if (!footer.substr(footer_head.size() + footer_digits).starts_with("STARGZ")) return {};
  auto value = parse_uint(digits, 16, std::numeric_limits<std::int64_t>::max());
  if (!value) return {};
  return static_cast<std::int64_t>(*value);
}

}  // namespace kiln::store
