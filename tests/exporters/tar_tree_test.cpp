// Random trees as tar exports. A failure prints its seed: KILN_FILE_SEED=<seed> KILN_FILE_SEEDS=1 runs that one.
#include "exporters/tar_tree.hpp"

#include <catch2/catch.hpp>

#include "store/unpack.hpp"
#include "tests/support/byte_streams.hpp"
#include "tests/support/random_tree.hpp"
#include "tests/support/temp_dir.hpp"

using namespace kiln;
using namespace kiln::test;

TEST_CASE("the tar of a random tree holds that tree, in whole seconds") {
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
    auto done = store::unpack_tar(source, to.path(), {}, {});
    if (!done) FAIL(done.error().message);
    auto expected = changed(scan_tree(from.path()), [](const std::string&, tree_entry& e) {
      e.mtime_ns = *e.mtime_ns / 1'000'000'000 * 1'000'000'000;
    });
    auto difference = tree_difference(scan_tree(to.path()), expected);
    if (!difference.empty()) FAIL_CHECK(difference);
  }
}
