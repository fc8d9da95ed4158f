#include <catch2/catch.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>

#include <unistd.h>

#include "configs/codec.hpp"
#include "store/archive/codec.hpp"

using namespace kiln;
using namespace kiln::store;

namespace {

struct string_sink : byte_sink {
  std::string bytes;
  std::size_t fail_after = SIZE_MAX;
  status write(std::string_view b) override {
    if (bytes.size() + b.size() > fail_after) return make_error(errc::resource_exhausted, "disk full");
    bytes += b;
    return {};
  }
  status finish() override { return {}; }
};

struct string_source : byte_source {
  string_source(std::string b, std::size_t chunk) : bytes(std::move(b)), step(chunk) {}
  std::string bytes;
  std::size_t step, at = 0;
  result<std::size_t> read(std::span<char> buffer) override {
    std::size_t n = std::min({buffer.size(), step, bytes.size() - at});
    std::memcpy(buffer.data(), bytes.data() + at, n);
    at += n;
    return n;
  }
};

/// Text-like data with runs, repetition far back and incompressible stretches.
std::string sample(std::size_t size, unsigned seed) {
  std::mt19937 random(seed);
  std::string out;
  out.reserve(size + 1'000);
  while (out.size() < size) {
    switch (random() % 5) {
      case 0: out.append(random() % 300, static_cast<char>(random())); break;
      case 1:
        for (unsigned i = 0; i < 200; ++i) out += static_cast<char>(random());
        break;
      case 2:
        if (out.size() > 40'000) out += out.substr(out.size() - 30'000 - random() % 5'000, random() % 700);
        break;
      default:
        for (unsigned i = 0; i < 60; ++i) (out += "the quick brown fox "[random() % 20]) += "ei";
    }
  }
  out.resize(size);
  return out;
}

std::string compressed(compression kind, std::string_view data, std::optional<int> level, unsigned threads,
                       std::size_t step = 1 << 17) {
  string_sink sink;
  auto c = make_compressor(kind, level, sink, threads);
  for (std::size_t at = 0; at < data.size(); at += step) REQUIRE(c->write(data.substr(at, step)).ok());
  REQUIRE(c->finish().ok());
  return sink.bytes;
}

result<std::string> expanded(std::string data, std::size_t step = 1 << 16, decompress_options options = {}) {
  auto d = make_decompressor(std::make_unique<string_source>(std::move(data), step), options);
  std::string out;
  std::vector<char> buffer(100'000);
  for (;;) {
    KILN_TRY(std::size_t n, d->read(buffer));
    if (n == 0) return out;
    out.append(buffer.data(), n);
  }
}

}  // namespace

TEST_CASE("compressed bytes do not depend on threads or on how the input was cut") {
  auto data = sample(9'500'000, 1);
  for (auto kind : {compression::gzip, compression::zstd}) {
    for (std::optional<int> level : {std::optional<int>{}, std::optional<int>{1}, std::optional<int>{9}}) {
      auto one = compressed(kind, data, level, 1);
      CHECK(compressed(kind, data, level, 2) == one);
      CHECK(compressed(kind, data, level, 4, 777'777) == one);
      CHECK(compressed(kind, data, level, 3, 4'099) == one);
      CHECK(expanded(one).value() == data);
    }
  }
}

TEST_CASE("every size around a block boundary survives a round trip") {
  auto all = sample(2 * configs::gzip_block_size + 10, 2);
  for (std::size_t size : {std::size_t{0}, std::size_t{1}, std::size_t{100}, configs::gzip_block_size - 1,
                           configs::gzip_block_size, configs::gzip_block_size + 1, all.size()}) {
    for (auto kind : {compression::uncompressed, compression::gzip, compression::zstd}) {
      auto packed = compressed(kind, std::string_view(all).substr(0, size), {}, 2);
      INFO(to_string(kind) << " " << size);
      CHECK((expanded(packed).value() == all.substr(0, size)));
    }
  }
}

TEST_CASE("every gzip level gives a stream that can be read back") {
  auto data = sample(2'500'000, 3);
  for (int level = 0; level <= 9; ++level)
    CHECK((expanded(compressed(compression::gzip, data, level, 2)).value() == data));
}

TEST_CASE("gzip output of several members can be read by other programs") {
  auto data = sample(3'300'000, 4);
  auto packed = compressed(compression::gzip, data, {}, 2);
  char path[] = "/tmp/kiln_codec_XXXXXX";
  int fd = mkstemp(path);
  REQUIRE(fd >= 0);
  REQUIRE(write(fd, packed.data(), packed.size()) == static_cast<ssize_t>(packed.size()));
  close(fd);
  FILE* pipe = popen(("gzip -dc < " + std::string(path)).c_str(), "r");
  std::string out(data.size() + 1, '\0');
  out.resize(std::fread(out.data(), 1, out.size(), pipe));
  CHECK(pclose(pipe) == 0);
  unlink(path);
  CHECK((out == data));
}

TEST_CASE("incompressible input grows by very little") {
  std::mt19937 random(5);
  std::string data(3 << 20, '\0');
  for (auto& c : data) c = static_cast<char>(random());
  auto packed = compressed(compression::gzip, data, {}, 2);
  CHECK(packed.size() < data.size() + 1'000);
  CHECK((expanded(packed).value() == data));
}

TEST_CASE("concatenated gzip members and zstd frames are read as one stream, whatever the chunks") {
  auto a = sample(300'000, 6), b = sample(5'000, 7);
  for (auto kind : {compression::gzip, compression::zstd}) {
    auto both = compressed(kind, a, {}, 1) + compressed(kind, "", {}, 1) + compressed(kind, b, {}, 1);
    for (std::size_t step : {1, 7, 4'096, 1 << 20}) CHECK((expanded(both, step).value() == a + b));
  }
}

TEST_CASE("zero padding behind a gzip stream is ignored and anything else is refused") {
  auto packed = compressed(compression::gzip, "hello", {}, 1);
  CHECK(expanded(packed + std::string(1'000, '\0')).value() == "hello");
  CHECK(expanded(packed + "junk").error().code == errc::data_loss);
}

TEST_CASE("a truncated stream is an error at every length") {
  auto data = sample(20'000, 8);
  for (auto kind : {compression::gzip, compression::zstd}) {
    auto packed = compressed(kind, data, {}, 1);
    for (std::size_t n = 4; n < packed.size(); n += 1 + packed.size() / 97) {
      auto r = expanded(packed.substr(0, n));
      REQUIRE_FALSE(r.ok());
      CHECK(r.error().code == errc::data_loss);
    }
    CHECK_FALSE(expanded(packed.substr(0, packed.size() - 1)).ok());
  }
}

TEST_CASE("a flipped bit is noticed") {
  auto data = sample(200'000, 9);
  for (auto kind : {compression::gzip, compression::zstd}) {
    auto packed = compressed(kind, data, {}, 1);
    for (std::size_t at : {packed.size() / 3, packed.size() / 2, packed.size() - 3}) {
      auto bad = packed;
      bad[at] = static_cast<char>(bad[at] ^ 0x10);
      auto r = expanded(bad);
      REQUIRE_FALSE(r.ok());
      CHECK(r.error().code == errc::data_loss);
    }
  }
}

/// What a program of that name makes of it.
std::string packed_by(const std::string& program, std::string_view data) {
  char name[] = "/tmp/kiln-codec-XXXXXX";
  int fd = ::mkstemp(name);
  REQUIRE(::write(fd, data.data(), data.size()) == static_cast<ssize_t>(data.size()));
  ::close(fd);
  std::string out;
  auto* pipe = ::popen((program + " -c " + name).c_str(), "r");
  REQUIRE(pipe != nullptr);
  char buffer[65536];
  for (std::size_t n; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) out.append(buffer, n);
  CHECK(::pclose(pipe) == 0);
  ::unlink(name);
  return out;
}

TEST_CASE("a decompression bomb is stopped, whatever it is packed with") {
  decompress_options options;
  options.archives = true;
  options.free_output = 1 << 20;
  options.ratio_max = 500;
  std::string plain(20 << 20, 'A');
  for (const auto& bomb :
       {compressed(compression::gzip, plain, {}, 1), compressed(compression::zstd, plain, {}, 1),
        packed_by("xz", plain), packed_by("bzip2", plain)}) {
    auto r = expanded(bomb, 1 << 16, options);
    REQUIRE_FALSE(r.ok());
    CHECK(r.error().code == errc::resource_exhausted);
    CHECK(r.error().message.find("more than 500 times its size") != std::string::npos);
    auto larger = options;
    larger.free_output = 20 << 20;
    CHECK(expanded(bomb, 1 << 16, larger).ok());
  }
}

TEST_CASE("zeros are no bomb: a sparse file's layer is read back however small it got") {
  std::string plain(100 << 20, '\0');
  plain[50 << 20] = 'x';
  decompress_options options;
  options.free_output = 1 << 20;
  auto back = expanded(compressed(compression::zstd, plain, {}, 1), 1 << 16, options);
  REQUIRE(back.ok());
  CHECK((*back == plain));
}

TEST_CASE("xz and bzip2 are read in archives only, one or several streams") {
  auto data = sample(3'000'000, 21);
  decompress_options archives;
  archives.archives = true;
  for (const auto* program : {"xz", "bzip2", "gzip", "zstd -q"}) {
    INFO(program);
    auto packed = packed_by(program, data);
    CHECK((expanded(packed, 4'099, archives).value() == data));
    CHECK((expanded(packed + packed_by(program, "more"), 1 << 16, archives).value() == data + "more"));
    auto cut = expanded(packed.substr(0, packed.size() / 2), 1 << 16, archives);
    CHECK_FALSE(cut.ok());
  }
  auto packed = packed_by("xz", data);
  CHECK((expanded(packed).value() == packed));
}

TEST_CASE("only one level of compression is undone") {
  decompress_options archives;
  archives.archives = true;
  auto once = compressed(compression::gzip, "the quick brown fox", {}, 1);
  for (const auto* program : {"xz", "bzip2", "gzip"})
    CHECK((expanded(packed_by(program, once), 1 << 16, archives).value() == once));
}

TEST_CASE("an xz stream that wants more memory than allowed is refused") {
  decompress_options archives;
  archives.archives = true;
  auto r = expanded(packed_by("xz --lzma2=preset=0,dict=512MiB", sample(1'000, 22)), 1 << 16, archives);
  REQUIRE_FALSE(r.ok());
  CHECK(r.error().code == errc::resource_exhausted);
  CHECK(r.error().message.find("of memory, more than") != std::string::npos);
}

TEST_CASE("a zstd window larger than accepted is refused") {
  auto r = expanded(packed_by("zstd -q --long=30", sample(1'000'000, 23)), 1 << 16);
  // Of a small file the window is as small; a stream without a size has it as it was asked for.
  CHECK(r.ok());
  std::string frame("\x28\xb5\x2f\xfd\x00\xa0\x01\x00\x00",
                    9);  // window descriptor: 2^30 bytes, one empty last block
  auto large = expanded(frame);
  REQUIRE_FALSE(large.ok());
  CHECK(large.error().code == errc::data_loss);
}

TEST_CASE("bytes without a known magic pass through") {
  CHECK(expanded("").value().empty());
  CHECK(expanded("ab").value() == "ab");
  auto data = sample(600'000, 10);
  CHECK((expanded("x" + data, 1'000).value() == "x" + data));
}

TEST_CASE("a failing output stops the compressor with its error") {
  auto data = sample(8'000'000, 11);
  for (auto kind : {compression::gzip, compression::zstd}) {
    string_sink sink;
    sink.fail_after = 100'000;
    auto c = make_compressor(kind, {}, sink, 2);
    status s;
    for (std::size_t at = 0; at < data.size() && s.ok(); at += 1 << 20)
      s = c->write(std::string_view(data).substr(at, 1 << 20));
    if (s.ok()) s = c->finish();
    REQUIRE_FALSE(s.ok());
    CHECK(s.error().message == "disk full");
    CHECK_FALSE(c->finish().ok());
  }
}

TEST_CASE("a reader that stops early does not hang") {
  auto d = make_decompressor(
      std::make_unique<string_source>(compressed(compression::gzip, sample(30 << 20, 12), 1, 2), 9'999));
  std::vector<char> buffer(10);
  CHECK(d->read(buffer).value() == 10);
}

TEST_CASE("compression names and media types are those of the protocol") {
  CHECK(parse_compression("zstd").value() == compression::zstd);
  CHECK(parse_compression("brotli").error().message == "unsupported compression type brotli");
  CHECK(compression_of_media_type("application/vnd.oci.image.layer.v1.tar+zstd") == compression::zstd);
  CHECK(compression_of_media_type("application/vnd.docker.image.rootfs.diff.tar.gzip") == compression::gzip);
  CHECK(compression_of_media_type("application/vnd.oci.image.layer.v1.tar") == compression::uncompressed);
  CHECK_FALSE(compression_of_media_type("application/vnd.oci.image.config.v1+json"));
}
