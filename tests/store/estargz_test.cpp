// eStargz: the table says where each file's content is, and without it the layer is the archive it was made
// of.
#include <catch2/catch.hpp>

#include <random>

#include "base/base64.hpp"
#include "base/json_text.hpp"
#include "configs/codec.hpp"
#include "store/archive/codec.hpp"
#include "store/archive/estargz.hpp"
#include "store/archive/tar_reader.hpp"
#include "store/archive/tar_writer.hpp"

using namespace kiln;
using namespace kiln::store;

namespace {

struct text_sink final : byte_sink {
  std::string bytes;
  status write(std::string_view b) override {
    bytes += b;
    return {};
  }
  status finish() override { return {}; }
};

struct file {
  tar_entry head;
  std::string content = {};
};

std::string archive_of(const std::vector<file>& files) {
  text_sink out;
  tar_writer tar(out);
  for (auto f : files) {
    f.head.size = static_cast<std::int64_t>(f.content.size());
    REQUIRE(tar.header(f.head).ok());
    REQUIRE(tar.content(f.content).ok());
    REQUIRE(tar.end_entry().ok());
  }
  REQUIRE(tar.finish().ok());
  return out.bytes;
}

std::string noise(std::size_t size) {
  std::mt19937 random(7);
  std::string out(size, '\0');
  for (char& c : out) c = static_cast<char>(random() % 17);
  return out;
}

struct layer {
  std::string blob;
  estargz_summary summary;
  status outcome;
};

layer written(const std::string& archive, unsigned threads = 2, std::size_t step = 70'001) {
  text_sink out;
  estargz_writer writer({}, out, threads);
  layer made;
  for (std::size_t at = 0; at < archive.size() && made.outcome.ok(); at += step)
    made.outcome = writer.write(std::string_view(archive).substr(at, step));
  if (made.outcome.ok()) made.outcome = writer.finish();
  made.blob = out.bytes;
  made.summary = writer.summary();
  return made;
}

std::string plain(const std::string& compressed) {
  auto in = make_decompressor(std::make_unique<text_source>(compressed));
  text_sink out;
  REQUIRE(copy(*in, out).ok());
  return out.bytes;
}

std::string table_of(const layer& l) {
  auto at = estargz_table_offset(l.blob);
  REQUIRE(at);
  auto tar = plain(l.blob.substr(static_cast<std::size_t>(*at), l.blob.size() - *at - estargz_footer_size));
  text_source in(tar);
  tar_reader reader(in);
  auto head = reader.next();
  REQUIRE((head.ok() && *head));
  CHECK((*head)->name == "stargz.index.json");
  return tar.substr(512, static_cast<std::size_t>((*head)->size));
}

const std::string large = noise(static_cast<std::size_t>(2 * configs::estargz_chunk_size) + 12'345);

std::vector<file> sample() {
  return {{{.name = "bin/", .type = '5', .mode = 0755, .mtime = 1'700'000'000}},
          {{.name = "bin/tool",
            .mode = 04755,
            .uid = 3,
            .mtime = 1'700'000'000,
            .xattrs = {{"user.k", std::string("v\0", 2)}}},
           large},
          {{.name = "bin/empty", .mode = 0644}},
          {{.name = "bin/link", .type = '2', .mode = 0777, .link = "tool"}},
          {{.name = "bin/again", .type = '1', .mode = 04755, .link = "bin/tool"}},
          {{.name = "dev/" + std::string(120, 'n'),
            .type = '3',
            .mode = 0600,
            .device_major = 5,
            .device_minor = 1}},
          {{.name = "words", .mode = 0644, .gid = 4}, "some words"}};
}

}  // namespace

TEST_CASE("an eStargz layer is the archive and a table that tells where each file is") {
  auto archive = archive_of(sample());
  auto made = written(archive);
  REQUIRE(made.outcome.ok());
  auto at = static_cast<std::size_t>(estargz_table_offset(made.blob).value());
  CHECK((plain(made.blob.substr(0, at)) == archive));
  auto whole = plain(made.blob);
  CHECK(whole.size() == static_cast<std::size_t>(made.summary.plain_size));
  CHECK(sha256(whole) == made.summary.diff_id);
  CHECK(made.blob.size() < whole.size());

  auto text = table_of(made);
  CHECK(sha256(text) == made.summary.table);
  CHECK(text.starts_with(
      "{\n\t\"version\": 1,\n\t\"entries\": [\n\t\t{\n\t\t\t\"name\": \"bin/\",\n\t\t\t\"type\": \"dir\",\n"
      "\t\t\t\"modtime\": \"2023-11-14T22:13:20Z\",\n\t\t\t\"mode\": 493\n\t\t},"));
  auto entries = nlohmann::json::parse(text)["entries"];
  REQUIRE(entries.size() == 9);  // the large file in three pieces
  std::string content;
  for (int i = 1; i <= 3; ++i) {
    const auto& e = entries[i];
    CHECK(e["name"] == "bin/tool");
    CHECK(e["type"] == (i == 1 ? "reg" : "chunk"));
    CHECK(integer_member(e, "chunkOffset").value_or(0) == static_cast<std::int64_t>(content.size()));
    auto piece =
        i < 3 ? static_cast<std::size_t>(configs::estargz_chunk_size) : large.size() - content.size();
    CHECK(integer_member(e, "chunkSize").value_or(0) == (i < 3 ? configs::estargz_chunk_size : 0));
    auto bytes = plain(made.blob.substr(e["offset"].get<std::size_t>(), at - e["offset"].get<std::size_t>()))
                     .substr(0, piece);
    CHECK(e["chunkDigest"] == sha256(bytes).str());
    content += bytes;
  }
  CHECK((content == large));
  CHECK(entries[1]["digest"] == sha256(large).str());
  CHECK(entries[1]["size"] == large.size());
  CHECK(entries[1]["mode"] == 04755);
  CHECK(entries[1]["xattrs"]["user.k"] == base64_encode(std::string("v\0", 2)));
  CHECK(entries[4] ==
        nlohmann::json{{"name", "bin/empty"}, {"type", "reg"}, {"mode", 0644}, {"digest", sha256("").str()}});
  CHECK(entries[5]["linkName"] == "tool");
  CHECK(entries[6]["type"] == "hardlink");
  CHECK(entries[7]["name"] == "dev/" + std::string(120, 'n'));
  CHECK(entries[7]["devMajor"] == 5);
  CHECK(plain(made.blob.substr(entries[8]["offset"].get<std::size_t>())).starts_with("some words"));
}

TEST_CASE("an eStargz layer's bytes depend on the archive only, not on threads or pieces written") {
  auto archive = archive_of(sample());
  auto one = written(archive, 1, archive.size()), other = written(archive, 4, 511);
  CHECK((one.blob == other.blob));
  CHECK(one.summary.diff_id == other.summary.diff_id);
}

TEST_CASE("what is no archive for an eStargz layer is refused") {
  auto archive = archive_of(sample());
  CHECK(written(archive.substr(0, 10'000)).outcome.error().message == "tar: archive is truncated");
  CHECK(written(archive.substr(0, 700)).outcome.error().message == "tar: archive is truncated");
  CHECK_FALSE(written(std::string(2'048, 'x')).outcome.ok());
  auto twice = archive_of({{{.name = "./stargz.index.json"}, "{}"}});
  CHECK(written(twice).outcome.error().message ==
        "estargz: the archive has a table already; decompress the layer before");
  CHECK(table_of(written(std::string(1'024, '\0'))) == "{\n\t\"version\": 1,\n\t\"entries\": null\n}");
}

TEST_CASE("only the end of an eStargz layer says where a table is") {
  CHECK_FALSE(estargz_table_offset(""));
  CHECK_FALSE(estargz_table_offset(std::string(51, 'x')));
  text_sink out;
  auto gzip = make_compressor(compression::gzip, {}, out);
  REQUIRE(gzip->write(large).ok());
  REQUIRE(gzip->finish().ok());
  CHECK_FALSE(estargz_table_offset(out.bytes));
  auto footer = written(archive_of({})).blob;
  auto digits = footer.size() - estargz_footer_size + 16;
  CHECK_FALSE(estargz_table_offset(std::string(footer).replace(digits, 4, "zzzz")));
  CHECK_FALSE(estargz_table_offset(std::string(footer).replace(digits, 4, "ffff")));
}
