// What a node exports from a ref that came from another node is what that node would have exported.
#include <catch2/catch.hpp>

#include "../store/store_fixture.hpp"
#include "exporters/layers.hpp"

using namespace kiln;
using namespace kiln::store;
using namespace kiln::store::testing;

namespace {

class from_store final : public blob_provider {
 public:
  explicit from_store(ref_store& from) : from_(from) {}
  status fetch(const descriptor& blob, blob_store& into, const job_context&) override {
    KILN_TRY(auto bytes, from_.blobs().read_all(blob.digest, 1 << 28));
    auto kept = into.put(bytes);
    if (!kept) return std::move(kept).error();
    return {};
  }
  bool is_peer() const override { return true; }

 private:
  ref_store& from_;
};

std::vector<std::string> exported(ref_store& store, const ref& r, exporters::compression_options how) {
  exporters::layer_exporter exporter(store, nullptr, how);
  std::vector<ref> refs{r};
  auto layers = must(exporter.run(refs, {}));
  std::vector<std::string> out;
  for (const auto& l : layers[0]) {
    must(exporter.ensure(l, {}));
    out.push_back(l.blob.blob.media_type + " " + l.blob.blob.digest.str() + " " + l.blob.diff_id.str() + " " +
                  std::to_string(l.created_at_ns) + " " + l.description);
  }
  return out;
}

}  // namespace

TEST_CASE("a ref from another node is exported with the same layers as there") {
  temporary_root root_a, root_b;
  auto a = open_store(root_a), b = open_store(root_b);
  auto provider = std::make_shared<from_store>(*a);
  auto base = layer_of(*a, {}, {{"d/x", "1"}, {"y", "2"}}, {.description = "COPY", .created_at_ns = 5});
  auto empty = layer_of(*a, base, {});
  auto top = layer_of(*a, empty, {{"d/x", nullptr}, {"z", "3"}}, {.description = "RUN"});
  auto move = [&](const ref& r) {
    ref at;
    for (const auto& l : must(a->peers().export_to_peer(r, {})))
      at = must(b->peers().import_from_peer(
          at, l, provider, {.description = l.description, .created_at_ns = l.created_at_ns}));
    return at;
  };
  auto got = move(top);
  exporters::compression_options gzip;
  CHECK(exported(*a, top, gzip) == exported(*b, got, gzip));
  // Having been exported there with another compression, it is here, too, what the image already has.
  auto other = layer_of(*a, {}, {{"other", "4"}});
  exporters::compression_options zstd;
  zstd.kind = compression::zstd;
  auto first = exported(*a, other, zstd);
  CHECK(exported(*b, move(other), gzip) == exported(*a, other, gzip));
  CHECK(exported(*a, other, gzip) == first);
}
