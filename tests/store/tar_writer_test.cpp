// The bytes of tar headers are those of Go's archive/tar; what they say is read back in unpack_test.
#include "store_fixture.hpp"

#include <vector>

#include "store/archive/tar_reader.hpp"

using namespace kiln;
using namespace kiln::store;
using namespace kiln::store::testing;

namespace {

struct written {
  std::string bytes;
  /// A field of the n-th block, up to its first NUL.
  std::string field(std::size_t n, std::size_t at, std::size_t width) const {
    auto text = bytes.substr(n * 512 + at, width);
    return text.substr(0, text.find('\0'));
  }
};

written write_header(const tar_entry& e, long_names names = long_names::split) {
  string_sink sink;
  tar_writer w(sink, names);
  must(w.header(e));
  return {sink.text};
}

}  // namespace

TEST_CASE(
    "records stand beside what they are about, in a header of mode 0, and name what a header can hold") {
  auto w = write_header({.name = "a/b/f", .mode = 0644, .mtime = -5});
  CHECK(w.bytes.size() == 3 * 512);
  CHECK(w.field(0, 0, 100) == "a/b/PaxHeaders.0/f");
  CHECK(w.field(0, 100, 8) == "0000000");
  CHECK(w.field(0, 156, 1) == "x");
  CHECK(w.field(1, 0, 512) == "12 mtime=-5\n");
  CHECK(w.field(2, 0, 100) == "a/b/f");
  CHECK(w.field(2, 136, 12) == "00000000000");
  CHECK(write_header({.name = "d/", .type = '5', .mtime = std::int64_t{1} << 33}).field(0, 0, 100) ==
        "d/PaxHeaders.0");
  CHECK(write_header({.name = "f", .mtime = -1}).field(0, 0, 100) == "PaxHeaders.0/f");
  auto odd = write_header({.name = "sp\xc3\xa4\xc3\x9f"
                                   "e\xff/x",
                           .type = '2',
                           .link = "\xe9o"});
  CHECK(odd.field(0, 0, 100) == "spe/PaxHeaders.0/x");
  CHECK(odd.field(1, 0, 512) ==
        "15 linkpath=\xe9o\n19 path=sp\xc3\xa4\xc3\x9f"
        "e\xff/x\n");
  CHECK(odd.field(2, 0, 100) == "spe/x");
  CHECK(odd.field(2, 157, 100) == "o");
}

TEST_CASE("long names are split where they may be and there are no records") {
  std::string directory(120, 'd'), name = directory + "/" + std::string(90, 'f');
  auto split = write_header({.name = name});
  CHECK(split.bytes.size() == 512);
  CHECK(split.field(0, 345, 155) == directory);
  CHECK(split.field(0, 0, 100) == std::string(90, 'f'));
  for (const auto& w :
       {write_header({.name = name}, long_names::record), write_header({.name = name, .mtime = -1}),
        write_header({.name = name, .uid = 1 << 21})}) {
    CHECK(w.field(0, 0, 100) == std::string(100, 'd'));
    CHECK(w.field(1, 0, 512).find("path=" + name + "\n") != std::string::npos);
    CHECK(w.field(2, 0, 100) == std::string(100, 'd'));
    CHECK(w.field(2, 345, 155).empty());
  }
  // Cut at a slash, a name would look like a directory's.
  auto cut = write_header({.name = std::string(97, 'x') + "///" + std::string(90, 'f')}, long_names::record);
  CHECK(cut.field(2, 0, 100) == std::string(97, 'x'));
}

TEST_CASE("what is written is read, whatever it is") {
  std::vector<tar_entry> all{
      {.name = "a", .mode = 06755, .uid = 1u << 31, .gid = 4294967295u, .mtime = 1, .mtime_ns = 5},
      {.name = std::string(300, 'n'), .mtime = -2, .mtime_ns = 250'000'000},
      {.name = "l", .type = '2', .mtime = std::int64_t{1} << 40, .link = std::string(200, 't')},
      {.name = "c", .type = '3', .device_major = 4095, .device_minor = 77},
      {.name = "\xff\n=", .xattrs = {{"user.a", std::string("b\0c\n", 4)}, {"user.e", ""}}},
      {.name = "big", .size = std::int64_t{1} << 40}};
  for (auto names : {long_names::split, long_names::record})
    for (const auto& e : all) {
      INFO(e.name);
      auto bytes = write_header(e, names).bytes;
      string_source source(bytes);
      tar_reader reader(source);
      auto read = must(reader.next());
      REQUIRE(read);
      CHECK(std::tuple(read->name, read->type, read->link, read->xattrs) ==
            std::tuple(e.name, e.type, e.link, e.xattrs));
      CHECK(std::tuple(read->mode, read->uid, read->gid, read->size) ==
            std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t>(e.mode, e.uid, e.gid, e.size));
      CHECK(std::tuple(read->mtime.tv_sec, read->mtime.tv_nsec) ==
            std::tuple<std::int64_t, long>(e.mtime, e.mtime_ns));
      CHECK(std::tuple(read->device_major, read->device_minor) ==
            std::tuple<std::int64_t, std::int64_t>(e.device_major, e.device_minor));
    }
}
