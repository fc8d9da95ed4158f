// Files with holes: wherever content is copied, packed, unpacked or sent, it stays the same and holes stay
// holes.
#include "store_fixture.hpp"

#include <cstdlib>
#include <random>
#include <thread>

#include "configs/store.hpp"
#include "store/files/copy_tree.hpp"
#include "store/files/file_data.hpp"
#include "filesync/receiver.hpp"
#include "filesync/sender.hpp"
#include "store/archive/layer_tar.hpp"
#include "store/archive/unpack.hpp"
#include "tests/support/stream_pair.hpp"

using namespace kiln;
using namespace kiln::store;
using namespace kiln::store::testing;

namespace {

constexpr std::int64_t mib = 1 << 20;

struct stat look(const fs::path& path) {
  struct stat info {};
  REQUIRE(::lstat(path.c_str(), &info) == 0);
  return info;
}

std::int64_t allocated(const fs::path& path) { return std::int64_t{look(path).st_blocks} * 512; }

/// A file of holes with a little data in the middle and, if wanted, at its end.
void make_sparse(const fs::path& path, std::int64_t size, bool ends_in_hole = true) {
  fs::create_directories(path.parent_path());
  auto fd = must(open_file(path, O_RDWR | O_CREAT | O_TRUNC, 0644));
  REQUIRE(::ftruncate(fd.get(), size) == 0);
  REQUIRE(::pwrite(fd.get(), "middle", 6, size / 2 + 77) == 6);
  if (!ends_in_hole) REQUIRE(::pwrite(fd.get(), "end", 3, size - 3) == 3);
}

bool same_bytes(const fs::path& a, const fs::path& b) {
  return std::system(("cmp -s " + a.string() + " " + b.string()).c_str()) == 0;
}

std::string all_of(byte_source& source, std::size_t step) {
  std::string out, buffer(step, '\0');
  while (true) {
    auto count = must(source.read(buffer));
    if (count == 0) return out;
    out.append(buffer, 0, count);
  }
}

/// Runs of zeros and of other bytes, of all lengths around blocks and the shortest hole.
std::string runs(std::mt19937& random, std::size_t size) {
  std::string out;
  while (out.size() < size) {
    static constexpr std::size_t lengths[] = {1, 100, 4095, 4096, 4097, 65535, 65536, 65537, 200'000};
    auto length = lengths[random() % std::size(lengths)];
    if (random() % 2) out.append(length, '\0');
    else
      for (std::size_t i = 0; i < length; ++i) out += static_cast<char>(random());
  }
  out.resize(size);
  return out;
}

}  // namespace

TEST_CASE("what is written with holes reads as it was, whatever runs it has and however it is cut") {
  temporary_root root;
  for (unsigned seed = 0; seed < 40; ++seed) {
    INFO("seed " << seed);
    std::mt19937 random(seed);
    auto text = runs(random, random() % 3 ? random() % 2'000'000 : 65536 * (random() % 4));
    auto path = root.path() / "file";
    auto fd = must(open_file(path, O_RDWR | O_CREAT | O_TRUNC, 0644));
    sparse_writer writer;
    for (std::size_t at = 0; at < text.size();) {
      auto size = std::min<std::size_t>(text.size() - at, 1 + random() % 100'000);
      must(writer.write(fd.get(), std::string_view(text).substr(at, size)));
      at += size;
    }
    must(writer.finish(fd.get()));
    fd.reset();
    CHECK((read(path) == text));
    auto copy = must(open_file(root.path() / "copy", O_RDWR | O_CREAT | O_TRUNC, 0644));
    must(copy_file_data(must(open_file(path, O_RDONLY)).get(), copy.get(), {}));
    CHECK((read(root.path() / "copy") == text));
    auto source = read_file_data(must(open_file(path, O_RDONLY)));
    CHECK((all_of(*source, 1 + random() % 300'000) == text));
  }
}

TEST_CASE("holes stay holes when files and trees are copied") {
  temporary_root root;
  bool ends_in_hole = GENERATE(true, false);
  make_sparse(root.path() / "from/d/disk", 8192 * mib, ends_in_hole);
  fs::create_directory(root.path() / "to");
  must(copy_tree(root.path() / "from", root.path() / "to", {}, {}));
  CHECK(look(root.path() / "to/d/disk").st_size == 8192 * mib);
  CHECK(allocated(root.path() / "to/d/disk") < mib);
  auto in = must(open_file(root.path() / "to/d/disk", O_RDONLY));
  char text[6];
  CHECK(::pread(in.get(), text, 6, 4096 * mib + 77) == 6);
  CHECK(std::string_view(text, 6) == "middle");
}

TEST_CASE("content is copied where the kernel does not copy it: between file systems") {
  temporary_root root;
  auto text = std::string(300'000, 'x') + std::string(200'000, '\0') + "end";
  write(root.path() / "from", text);
  char name[] = "/dev/shm/kiln-copy-XXXXXX";
  unique_fd to(::mkstemp(name));
  must(copy_file_data(must(open_file(root.path() / "from", O_RDONLY)).get(), to.get(), {}));
  CHECK((read(name) == text));
  ::unlink(name);
}

TEST_CASE("copying ends when the job is told to stop, in the middle of a file") {
  temporary_root root;
  auto from = must(open_file(root.path() / "from", O_RDWR | O_CREAT, 0644));
  must(write_all(from.get(), "data"));
  auto to = must(open_file(root.path() / "to", O_RDWR | O_CREAT, 0644));
  std::stop_source stop;
  stop.request_stop();
  job_context job;
  job.stop = stop.get_token();
  auto done = copy_file_data(from.get(), to.get(), job);
  REQUIRE_FALSE(done.ok());
  CHECK(done.error().code == errc::cancelled);
}

TEST_CASE("the copy of a retained snapshot and a layer packed and unpacked again keep holes") {
  temporary_root root;
  auto store = open_store(root);
  auto kept = must(store->acquire_named("kept", {}, {}, {}));
  {
    auto specs = must(store->files().mounts(kept));
    auto mount = must(mounted::make(*store, specs));
    make_sparse(mount.path() / "disk", 64 * mib);
  }
  auto copied = must(store->commit_copy(kept, {}, {}));
  auto mount = mount_of(*store, copied);
  CHECK(allocated(mount.path() / "disk") < mib);

  // The archive is as plain as any, so that everybody can read it.
  auto tar = tar_of(*store, copied.id());
  CHECK(tar.size() > 64 * mib);
  CHECK(tar[156] == '0');
  fs::create_directory(root.path() / "to");
  string_source source(tar);
  must(unpack_tar(source, root.path() / "to", {}, {}));
  CHECK(same_bytes(root.path() / "to/disk", mount.path() / "disk"));
  CHECK(allocated(root.path() / "to/disk") < mib);
}

TEST_CASE("sparse entries of every kind of tar are read right and stay sparse") {
  temporary_root root;
  make_sparse(root.path() / "from/disk", 100 * mib, GENERATE(true, false));
  write(root.path() / "from/text", "behind it");
  for (auto format : {"--format=gnu", "--format=posix --sparse-version=0.0",
                      "--format=posix --sparse-version=0.1", "--format=posix --sparse-version=1.0"}) {
    INFO(format);
    auto tar = root.path() / "a.tar";
    auto command = "tar -S " + std::string(format) + " -C " + (root.path() / "from").string() + " -cf " +
                   tar.string() + " disk text";
    REQUIRE(std::system(command.c_str()) == 0);
    CHECK(look(tar).st_size < mib);
    auto to = root.path() / "to";
    must(remove_tree(to));
    fs::create_directory(to);
    auto fd = must(open_file(tar, O_RDONLY));
    CHECK(is_archive(fd.get()));
    auto source = must(open_source(fd.get()));
    auto done = must(unpack_tar(*source, to, {.detect_compression = true}, {}));
    CHECK(done.bytes == 100 * mib + 9);
    CHECK(same_bytes(to / "disk", root.path() / "from/disk"));
    CHECK(allocated(to / "disk") < mib);
    CHECK(read(to / "text") == "behind it");
  }
}

TEST_CASE("an archive of more than the bound is refused with the bound, holes counted") {
  temporary_root root;
  fs::create_directory(root.path() / "to");
  auto sparse = root.path() / "disk";
  make_sparse(sparse, limits::archive_bytes + 1);
  auto tar = root.path() / "a.tar";
  REQUIRE(std::system(("tar -S -C " + root.path().string() + " -cf " + tar.string() + " disk").c_str()) == 0);
  auto source = must(open_source(must(open_file(tar, O_RDONLY)).get()));
  auto done = unpack_tar(*source, root.path() / "to", {}, {});
  REQUIRE_FALSE(done.ok());
  CHECK(done.error().code == errc::resource_exhausted);
  CHECK(done.error().message == "archive entry \"disk\": archive holds more than " +
                                    std::to_string(limits::archive_bytes) + " bytes of files");
  CHECK_FALSE(fs::exists(root.path() / "to/disk"));
}

TEST_CASE("an archive packed twice is no archive: one level of compression is undone") {
  temporary_root root;
  auto inside = root.path() / "a.tar";
  REQUIRE(
      std::system(("cd " + root.path().string() + " && echo hi > hello && tar -cf a.tar hello && " +
                   "gzip -k a.tar && gzip -c a.tar.gz > twice.gz && xz -c a.tar.gz > gz.xz && bzip2 -k a.tar")
                      .c_str()) == 0);
  for (auto [name, is] : {std::pair{"a.tar", true},
                          {"a.tar.gz", true},
                          {"a.tar.bz2", true},
                          {"twice.gz", false},
                          {"gz.xz", false}}) {
    INFO(name);
    CHECK(is_archive(must(open_file(root.path() / name, O_RDONLY)).get()) == is);
  }
  // Nor where somebody takes it for one.
  fs::create_directory(root.path() / "to");
  auto source = must(open_source(must(open_file(root.path() / "twice.gz", O_RDONLY)).get()));
  CHECK_FALSE(unpack_tar(*source, root.path() / "to", {.detect_compression = true}, {}).ok());
  CHECK_FALSE(fs::exists(root.path() / "to/hello"));
}

TEST_CASE("holes and long runs of zeros stay holes when a tree is sent") {
  temporary_root root;
  make_sparse(root.path() / "from/disk", 40 * mib, GENERATE(true, false));
  fs::create_directory(root.path() / "to");
  // More files at once than stay open, so that descriptors change in the middle of files.
  std::mt19937 random(7);
  for (int i = 0; i < 300; ++i)
    write(root.path() / "from" / ("f" + std::to_string(i)), runs(random, random() % 300'000));
  auto [a, b] = test::make_stream_pair();
  std::thread sender([&, end = a.get()] {
    auto tree = filesync::open_directory((root.path() / "from").string(), {});
    must(filesync::send(*end, **tree, {}));
    end->writes_done();
  });
  must(filesync::receive(*b, (root.path() / "to").string(), {}));
  b.reset();
  sender.join();
  CHECK(std::system(
            ("diff -r " + (root.path() / "from").string() + " " + (root.path() / "to").string()).c_str()) ==
        0);
  CHECK(allocated(root.path() / "to/disk") < mib);
}
