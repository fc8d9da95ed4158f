// Random trees as tar exports. A failure prints its seed: KILN_FILE_SEED=<seed> KILN_FILE_SEEDS=1 runs that
// one.
#include "exporters/tar_tree.hpp"

#include <catch2/catch.hpp>

#include <cmath>

#include <sys/stat.h>

#include "store/archive/unpack.hpp"
#include "tests/support/byte_streams.hpp"
#include "tests/support/random_tree.hpp"
#include "tests/support/temp_dir.hpp"

using namespace kiln;
using namespace kiln::test;

TEST_CASE("the tar of a random tree holds that tree, times to the nearest second") {
  for (auto seed : file_seeds(8)) {
    INFO("seed " << seed);
    temp_dir from, to;
    tree_maker maker(seed, {.linked_specials = false});
    maker.fill(from.path(), 5 + maker.below(60));
    string_sink sink;
    store::tar_writer tar(sink);
    auto files = filesync::open_directory(from.path().string());
    REQUIRE(files.ok());
    REQUIRE(exporters::write_tree(tar, **files, {}).ok());
    REQUIRE(tar.finish().ok());
    string_source source(sink.bytes);
    auto done = store::unpack_tar(source, to.path(), {.exact = true}, {});
    if (!done) FAIL(done.error().message);
    auto expected = changed(scan_tree(from.path()), [](const std::string&, tree_entry& e) {
      e.mtime_ns =
          static_cast<std::int64_t>(std::floor(static_cast<long double>(*e.mtime_ns) / 1e9L + 0.5L)) *
          1'000'000'000;
    });
    auto difference = tree_difference(scan_tree(to.path()), expected);
    if (!difference.empty()) FAIL_CHECK(difference);
  }
}

TEST_CASE("times before 1970 and beyond what the header holds are in the tar of a tree, halves up") {
  struct one {
    const char* name;
    std::int64_t nanoseconds, seconds;
  };
  constexpr std::int64_t header_end = std::int64_t{1} << 33, second = 1'000'000'000;
  const one all[] = {{"before", -5 * second, -5},
                     {"half before", -1'500'000'000, -1},
                     {"more before", -1'500'000'001, -2},
                     {"almost", -1, 0},
                     {"less", 1'499'999'999, 1},
                     {"half", 1'500'000'000, 2},
                     {"last", header_end * second - 1, header_end},
                     {"far", (header_end + 5) * second, header_end + 5}};
  temp_dir from, to;
  for (const auto& e : all) {
    write_file(from / e.name, "");
    auto whole = (e.nanoseconds - (e.nanoseconds < 0 ? second - 1 : 0)) / second;
    struct timespec t {
      whole, e.nanoseconds - whole* second
    };
    struct timespec times[2] = {t, t};
    REQUIRE(::utimensat(AT_FDCWD, (from / e.name).c_str(), times, 0) == 0);
  }
  string_sink sink;
  store::tar_writer tar(sink);
  REQUIRE(exporters::write_tree(tar, **filesync::open_directory(from.path().string()), {}).ok());
  REQUIRE(tar.finish().ok());
  string_source source(sink.bytes);
  REQUIRE(store::unpack_tar(source, to.path(), {.exact = true}, {}).ok());
  for (const auto& e : all) {
    INFO(e.name);
    struct stat info {};
    REQUIRE(::lstat((to / e.name).c_str(), &info) == 0);
    CHECK(info.st_mtim.tv_sec == e.seconds);
    CHECK(info.st_mtim.tv_nsec == 0);
  }
}
