#include <catch2/catch.hpp>

#include <map>

#include <archive.h>
#include <archive_entry.h>

#include "exporters/tar_times.hpp"
#include "store/archive/tar_writer.hpp"
#include "tests/support/byte_streams.hpp"

using namespace kiln;

namespace {

std::string sample() {
  test::string_sink sink;
  store::tar_writer tar(sink);
  auto add = [&](store::tar_entry e, const std::string& text) {
    e.size = static_cast<std::int64_t>(text.size());
    REQUIRE(tar.header(e).ok());
    if (!text.empty()) REQUIRE(tar.content(text).ok());
    REQUIRE(tar.end_entry().ok());
  };
  store::tar_entry e;
  e.mode = 0644;
  e.name = "old", e.mtime = 10;
  add(e, "old text");
  e.name = "new", e.mtime = 2'000'000'000;
  add(e, std::string(1'000, 'n'));
  e.name = std::string(300, 'l'), e.mtime = 3'000'000'000;
  add(e, "long");
  REQUIRE(tar.finish().ok());
  return sink.bytes;
}

std::map<std::string, std::int64_t> times(const std::string& tar) {
  std::map<std::string, std::int64_t> out;
  archive* a = archive_read_new();
  archive_read_support_format_tar(a);
  REQUIRE(archive_read_open_memory(a, tar.data(), tar.size()) == ARCHIVE_OK);
  archive_entry* e;
  int rc;
  while ((rc = archive_read_next_header(a, &e)) == ARCHIVE_OK) {
    out[archive_entry_pathname(e)] = archive_entry_mtime(e);
    archive_read_data_skip(a);
  }
  CHECK(rc == ARCHIVE_EOF);
  archive_read_free(a);
  return out;
}

}  // namespace

TEST_CASE("times after the epoch are clamped, whatever the header form and however the stream is cut") {
  std::string in = sample();
  REQUIRE(times(in)["new"] == 2'000'000'000);
  std::string whole;
  for (std::size_t step : {in.size(), std::size_t{1}, std::size_t{511}, std::size_t{700}}) {
    test::string_sink out;
    exporters::tar_time_clamp clamp(out, 1'000);
    for (std::size_t at = 0; at < in.size(); at += step)
      REQUIRE(clamp.write(std::string_view(in).substr(at, step)).ok());
    REQUIRE(clamp.finish().ok());
    auto t = times(out.bytes);
    CHECK(t.size() == 3);
    CHECK(t["old"] == 10);
    CHECK(t["new"] == 1'000);
    CHECK(t[std::string(300, 'l')] == 1'000);
    if (whole.empty()) whole = out.bytes;
    CHECK((out.bytes == whole));
  }
}

TEST_CASE("a tar that ends in the middle is an error") {
  std::string in = sample();
  for (std::size_t n : {std::size_t{100}, std::size_t{520}, std::size_t{1'700}}) {
    test::string_sink out;
    exporters::tar_time_clamp clamp(out, 1'000);
    REQUIRE(clamp.write(std::string_view(in).substr(0, n)).ok());
    CHECK(clamp.finish().error().code == errc::data_loss);
  }
}
