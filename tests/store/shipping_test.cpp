#include "store_fixture.hpp"

#include <sys/xattr.h>

#include "store/archive/codec.hpp"
#include "store/hashing/content_hash.hpp"

using namespace kiln;
using namespace kiln::store;
using namespace kiln::store::testing;

namespace {

/// Brings blobs from another store in this process, and counts them.
class store_provider final : public blob_provider {
 public:
  explicit store_provider(ref_store& from) : from_(from) {}
  status fetch(const descriptor& blob, blob_store& into, const job_context&) override {
    if (into.has(blob.digest)) return {};
    KILN_TRY(auto bytes, from_.blobs().read_all(blob.digest, 1 << 28));
    ++fetched;
    auto kept = into.put(bytes);
    if (!kept) return std::move(kept).error();
    return {};
  }
  bool is_peer() const override { return true; }
  std::atomic<int> fetched{0};

 private:
  ref_store& from_;
};

struct two_stores {
  temporary_root root_a, root_b;
  std::unique_ptr<ref_store> a = open_store(root_a), b = open_store(root_b);
  std::shared_ptr<store_provider> to_b = std::make_shared<store_provider>(*a);
  std::shared_ptr<store_provider> to_a = std::make_shared<store_provider>(*b);

  ref move(ref_store& from, const ref& r, ref_store& to, std::shared_ptr<blob_provider> by) {
    ref at;
    for (const auto& l : must(from.peers().export_to_peer(r, {})))
      at = must(to.peers().import_from_peer(
          at, l, by, {.description = l.description, .created_at_ns = l.created_at_ns}));
    return at;
  }
  ref move(const ref& r) { return move(*a, r, *b, to_b); }

  static digest sum(ref_store& s, const ref& r) { return must(content_checksum(s, r, {}, {})); }
  /// All that must not differ: the files, the content's digest, every layer's archive.
  void check_same(const ref& x, const ref& y) {
    auto names = [](const std::map<std::string, std::string>& files) {
      std::string out;
      for (const auto& [name, text] : files) out += name + "=" + sha256(text).str().substr(7, 4) + " ";
      return out;
    };
    CHECK(names(listing(*a, x)) == names(listing(*b, y)));
    CHECK(sum(*a, x).str() == sum(*b, y).str());
    auto lx = must(a->layers().of(x, {})), ly = must(b->layers().of(y, {}));
    REQUIRE(lx.size() == ly.size());
    for (std::size_t i = 0; i < lx.size(); ++i) {
      INFO("layer " << i);
      auto tx = tar_of(*a, lx[i].id), ty = tar_of(*b, ly[i].id);
      CHECK(sha256(tx).str() == sha256(ty).str());
      CHECK(lx[i].blobs.size() == ly[i].blobs.size());
      CHECK(lx[i].created_at_ns == ly[i].created_at_ns);
      CHECK(lx[i].description == ly[i].description);
    }
  }
};

void set_time(const fs::path& p, std::int64_t seconds, long ns) {
  struct timespec t[2] = {{seconds, ns}, {seconds, ns}};
  REQUIRE(::utimensat(AT_FDCWD, p.c_str(), t, AT_SYMLINK_NOFOLLOW) == 0);
}

}  // namespace

TEST_CASE("a layer with everything a layer can have is the same layer on another node") {
  two_stores s;
  auto below = layer_of(*s.a, {}, {{"gone", "1"}, {"dir/old", "2"}, {"keep/x", "3"}, {"over", "4"}});
  auto work =
      begin(*s.a, below, {.description = "RUN everything", .created_at_ns = 1'700'000'000'123'456'789});
  auto p = work.path();
  fs::remove(p / "gone");
  fs::remove_all(p / "dir");
  fs::create_directories(p / "dir/new");
  write(p / "over", "another");
  write(p / "ns", "time");
  set_time(p / "ns", 1'600'000'000, 123'456'789);
  write(p / "old", "before 1970");
  set_time(p / "old", -5, 0);
  fs::create_hard_link(p / "ns", p / "linked");
  fs::create_symlink("../over", p / "keep/link");
  set_time(p / "keep/link", 1'500'000'000, 5);
  REQUIRE(::mknod((p / "char").c_str(), S_IFCHR | 0640, ::makedev(1, 3)) == 0);
  REQUIRE(::mknod((p / "block").c_str(), S_IFBLK | 0600, ::makedev(7, 200)) == 0);
  REQUIRE(::mkfifo((p / "fifo").c_str(), 0600) == 0);
  write(p / "owned", "x");
  REQUIRE(::lchown((p / "owned").c_str(), 1234, 3'000'000) == 0);
  REQUIRE(::chmod((p / "owned").c_str(), 04711) == 0);
  fs::path deep = p;
  for (int i = 0; i < 8; ++i) deep /= std::string(60, static_cast<char>('a' + i));
  write(deep / (std::string(200, 'n') + "\xc3\xa4"), "long");
  std::string value("v\0\n=", 4);
  ::setxattr((p / "owned").c_str(), "user.note", value.data(), value.size(), 0);
  write(p / "empty", "");
  write(p / "big", std::string(3 << 20, 'b'));
  REQUIRE(::chmod(p.c_str(), 0711) == 0);
  auto r = end(*s.a, std::move(work));
  auto got = s.move(r);
  REQUIRE(got.id() != r.id());
  CHECK(s.to_b->fetched == 0);  // lazy
  s.check_same(r, got);
  CHECK(s.to_b->fetched == 2);

  auto ma = mount_of(*s.a, r), mb = mount_of(*s.b, got);
  struct stat x {
  }, y{};
  for (const char* name : {"ns", "old", "keep/link", "owned", "char", "fifo", "dir", "."}) {
    INFO(name);
    REQUIRE(::lstat((ma.path() / name).c_str(), &x) == 0);
    REQUIRE(::lstat((mb.path() / name).c_str(), &y) == 0);
    CHECK(x.st_mtim.tv_sec == y.st_mtim.tv_sec);
    CHECK(x.st_mtim.tv_nsec == y.st_mtim.tv_nsec);
    CHECK(x.st_mode == y.st_mode);
    CHECK(x.st_uid == y.st_uid);
    CHECK(x.st_gid == y.st_gid);
    CHECK(x.st_rdev == y.st_rdev);
  }
  CHECK(fs::hard_link_count(mb.path() / "ns") == 2);
}

TEST_CASE("chains with empty layers, merges, differences and scratch arrive as they were") {
  two_stores s;
  auto base = layer_of(*s.a, {}, {{"a", "1"}, {"d/x", "x"}, {"d/y", "y"}});
  auto empty = layer_of(*s.a, base, {});
  auto top = layer_of(*s.a, empty, {{"b", "2"}, {"a", nullptr}, {"d/x", nullptr}});
  s.check_same(top, s.move(top));

  auto other = layer_of(*s.a, {}, {{"a", "other"}, {"c", "3"}});
  std::vector<ref> parts{other, top};
  auto merged = must(s.a->merge(parts, {.description = "merge"}));
  s.check_same(merged, s.move(merged));

  auto change = must(s.a->diff(base, top, {}));  // top's own layers
  auto got = s.move(change);
  s.check_same(change, got);
  // Its removals still remove when it is put on something there.
  std::vector<ref> on_base{s.move(base), got}, on_base_a{base, change};
  s.check_same(must(s.a->merge(on_base_a, {})), must(s.b->merge(on_base, {})));

  auto real = must(s.a->diff(other, top, {.description = "computed"}));
  s.check_same(real, s.move(real));
  std::vector<ref> twice{base, other, base};
  auto again = must(s.a->merge(twice, {}));
  s.check_same(again, s.move(again));

  CHECK(must(s.a->peers().export_to_peer({}, {})).empty());
}

TEST_CASE("opaque directories hide on another parent what they hide on the node that merged them") {
  two_stores s;
  auto base = layer_of(*s.a, {}, {{"d/old", "1"}});
  auto work = begin(*s.a, base);
  fs::remove_all(work.path() / "d");
  write(work.path() / "d/new", "2");
  auto opaque = end(*s.a, std::move(work));
  s.check_same(opaque, s.move(opaque));
  auto ground = layer_of(*s.a, {}, {{"d/stays", "3"}, {"d/old", "gone"}});
  std::vector<ref> parts{ground, opaque};
  auto merged = must(s.a->merge(parts, {}));
  auto got = s.move(merged);
  CHECK(listing(*s.b, got).contains("d/stays"));
  s.check_same(merged, got);
  std::vector<ref> changes{ground, must(s.a->diff(base, opaque, {}))};
  auto applied = must(s.a->merge(changes, {}));
  s.check_same(applied, s.move(applied));
}

TEST_CASE("what lies here is exported and sent on here, whatever became of the node it came from") {
  two_stores s;
  auto base = layer_of(*s.a, {}, {{"d/old", "1"}});
  auto work = begin(*s.a, base);
  fs::remove_all(work.path() / "d");
  write(work.path() / "d/new", "2");
  auto opaque = end(*s.a, std::move(work));
  auto ground = layer_of(*s.a, {}, {{"d/stays", "3"}});
  std::vector<ref> parts{ground, opaque};
  auto merged = must(s.a->merge(parts, {}));  // its layers go in a normalized form, with archives beside them
  auto got = s.move(merged);
  CHECK(listing(*s.b, got).contains("d/stays"));
  auto id = got.id();
  got = {};
  s.b.reset();
  s.b = open_store(s.root_b);  // nobody is known any more who could bring something
  got = must(s.b->get(id));
  s.check_same(merged, got);
  temporary_root root_c;
  auto c = open_store(root_c);
  CHECK(listing(*c, s.move(*s.b, got, *c, std::make_shared<store_provider>(*s.b))).contains("d/stays"));
}

TEST_CASE("a layer's transport form is made once, never exported, and goes with its record") {
  two_stores s;
  auto r = layer_of(*s.a, {}, {{"f", "text"}});
  auto first = must(s.a->peers().export_to_peer(r, {}));
  auto second = must(s.a->peers().export_to_peer(r, {}));
  REQUIRE(first.size() == 1);
  REQUIRE(first[0].transport);
  CHECK(first[0].transport->blob == second[0].transport->blob);
  CHECK(first[0].origin == r.id());
  CHECK(s.a->blobs().list().size() == 1);
  CHECK(must(s.a->layers().of(r, {}))[0].blobs.empty());
  auto id = r.id();
  r = {};
  s.a.reset();
  s.a = open_store(s.root_a);
  r = must(s.a->get(id));
  CHECK(must(s.a->peers().export_to_peer(r, {}))[0].transport->blob == first[0].transport->blob);
  CHECK(must(s.a->layers().of(r, {}))[0].blobs.empty());
  r = {};
  must(s.a->space().prune({.all = true}, [](const usage_record&) {}));
  CHECK(s.a->blobs().list().empty());
}

TEST_CASE("own forms travel along, and what comes back is what it was") {
  two_stores s;
  auto base = layer_of(*s.a, {}, {{"f", "text"}});
  auto tar = tar_of(*s.a, base.id());
  layer_blob own;
  own.blob.media_type = "application/vnd.oci.image.layer.v1.tar";
  own.blob.digest = must(s.a->blobs().put(tar));
  own.blob.size = static_cast<std::int64_t>(tar.size());
  own.diff_id = own.blob.digest;
  must(s.a->layers().add_blob(base.id(), own));
  auto got = s.move(base);
  auto layers = must(s.b->layers().of(got, {}));
  REQUIRE(layers[0].blobs.size() == 1);
  CHECK(layers[0].blobs[0].blob == own.blob);
  REQUIRE(layers[0].provider);
  s.check_same(base, got);
  CHECK_FALSE(s.b->blobs().has(own.blob.digest));  // unpacked from the exact form
  must(layers[0].provider->fetch(own.blob, s.b->blobs(), {}));

  auto next = layer_of(*s.b, got, {{"g", "2"}});
  auto back = s.move(*s.b, next, *s.a, s.to_a);
  CHECK(must(s.a->layers().of(back, {}))[0].id == base.id());
  s.check_same(back, next);
  CHECK(s.to_a->fetched == 1);
  // The same again, from a store that has it from elsewhere: nothing moves, nothing is new.
  CHECK(s.move(base).id() == got.id());
  CHECK(s.move(*s.b, next, *s.a, s.to_a).id() == back.id());
}

TEST_CASE("layers of registries stay lazy and keep their blobs on the way") {
  two_stores s;
  auto registry = std::make_shared<memory_provider>();
  auto blob = registry->add(tar_builder().file("f", "text").text());
  auto r = must(s.a->layer({}, blob, registry, {}));
  auto shipped = must(s.a->peers().export_to_peer(r, {}));
  REQUIRE(shipped.size() == 1);
  CHECK_FALSE(shipped[0].transport);
  CHECK(shipped[0].blobs[0].blob == blob.blob);
  CHECK(registry->fetched == 0);
  auto got = s.move(r);
  // The same image pulled here is the same record.
  CHECK(must(s.b->layer({}, blob, registry, {})).id() == got.id());
  // The peer does not have it: the registry does.
  CHECK(listing(*s.b, got) == std::map<std::string, std::string>{{"f", "text"}});
  CHECK(registry->fetched == 1);
}

TEST_CASE("what was made on an image arrives on that image") {
  two_stores s;
  auto registry = std::make_shared<memory_provider>();
  auto blob = registry->add(tar_builder().file("f", "text").text());
  auto r = must(s.a->layer({}, blob, registry, {}));
  must(s.a->files().materialize(r, {}));
  auto got = s.move(r);
  s.check_same(r, got);
  auto top = layer_of(*s.a, r, {{"g", "1"}});
  auto got_top = s.move(top);
  s.check_same(top, got_top);
  CHECK(must(s.b->layers().of(got_top, {}))[0].id == got.id());
}
