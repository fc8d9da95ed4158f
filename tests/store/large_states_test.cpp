// File systems made of many records, however they stand on each other: what they consist of is found without
// walking any of it twice, and there are bounds.
#include "store_fixture.hpp"

#include <random>

#include "configs/store.hpp"

using namespace kiln;
using namespace kiln::store;
using namespace kiln::store::testing;

namespace {

using ids = std::vector<std::string>;

/// Layers whose bytes are in the store, and which nobody unpacks.
struct lazy_layers {
  int made = 0;

  ref add(ref_store& store, const ref& parent) { return add(store, parent, made++); }
  ref add(ref_store& store, const ref& parent, int which) {
    auto tar = tar_builder().file("f" + std::to_string(which), "x").text();
    must(store.blobs().put(tar));
    return must(store.layer(parent, memory_provider().add(tar), nullptr, {}));
  }
};

ids layers_of(ref_store& store, const ref& r) {
  ids out;
  for (const auto& layer : must(store.layers().of(r, {}))) out.push_back(layer.id);
  return out;
}

/// A record with what it consists of, told in the plainest way.
struct modelled {
  ref record;
  ids layers;
};

}  // namespace

TEST_CASE("a state consists of its layers, whatever merges and differences made it") {
  for (unsigned seed = 0; seed < 30; ++seed) {
    INFO("seed " << seed);
    temporary_root root;
    lazy_layers lazy;
    auto store = open_store(root);
    std::mt19937 random(seed);
    std::vector<modelled> all;
    auto any = [&]() -> const modelled& { return all[random() % all.size()]; };
    for (int i = 0; i < 60; ++i) {
      modelled m;
      auto kind = all.size() < 3 ? 0 : random() % 4;
      if (kind == 0) {
        modelled below;
        if (!all.empty() && random() % 3) below = any();
        m.record = lazy.add(*store, below.record);
        m.layers = below.layers;
        m.layers.push_back(m.record.id());
      } else if (kind == 1) {
        std::vector<ref> inputs;
        for (auto n = 2 + random() % 3; n > 0; --n) {
          const auto& input = any();
          inputs.push_back(input.record);
          m.layers.insert(m.layers.end(), input.layers.begin(), input.layers.end());
        }
        if (m.layers.size() > 500) continue;
        m.record = must(store->merge(inputs, {}));
      } else {
        const auto &lower = any(), &upper = any();
        m.record = must(store->diff(lower.record, upper.record, {}));
        if (!m.record) continue;
        bool built_on = lower.layers.size() <= upper.layers.size() &&
                        std::equal(lower.layers.begin(), lower.layers.end(), upper.layers.begin());
        if (built_on)
          m.layers.assign(upper.layers.begin() + static_cast<std::ptrdiff_t>(lower.layers.size()),
                          upper.layers.end());
        else m.layers = {m.record.id()};
      }
      CHECK(layers_of(*store, m.record) == m.layers);
      all.push_back(std::move(m));
    }
    // And after a restart, when they come from the database.
    std::map<std::string, ids> wanted;
    for (auto& m : all) wanted[m.record.id()] = m.layers;
    all.clear();
    store.reset();
    store = open_store(root);
    for (const auto& [id, layers] : wanted) CHECK(layers_of(*store, must(store->get(id))) == layers);
  }
}

TEST_CASE("merges of a merge with itself are refused before they are more than anyone could mount") {
  temporary_root root;
  lazy_layers lazy;
  auto store = open_store(root);
  auto top = lazy.add(*store, {});
  int depth = 0;
  for (result<ref> next = top; depth < 100; ++depth) {
    std::vector<ref> twice{top, top};
    next = store->merge(twice, {});
    if (!next.ok()) {
      CHECK(next.error().code == errc::resource_exhausted);
      CHECK(next.error().message == "a file system of 16384 layers: at most 10000 are allowed");
      break;
    }
    top = *next;
  }
  CHECK(depth == 13);
  CHECK(layers_of(*store, top).size() == 8192);
}

TEST_CASE("differences that each take the one before twice cost nothing to look through") {
  temporary_root root;
  lazy_layers lazy;
  auto store = open_store(root);
  auto top = lazy.add(*store, {});
  auto other = lazy.add(*store, {});
  std::size_t deep = 0;
  while (true) {
    std::vector<ref> both{other, top};
    auto merged = store->merge(both, {});
    auto next = merged.ok() ? store->diff(top, *merged, {}) : std::move(merged);
    if (!next.ok()) {
      CHECK(next.error().code == errc::resource_exhausted);
      CHECK(next.error().message.find("merges and differences within each other: at most 200") !=
            std::string::npos);
      break;
    }
    top = *next;
    REQUIRE(++deep < 1'000);
  }
  CHECK(deep >= 90);
  CHECK(layers_of(*store, top) == ids{top.id()});
}

TEST_CASE("a chain of thousands of merges is one list of layers, and goes as it came") {
  temporary_root root;
  lazy_layers lazy;
  auto store = open_store(root);
  auto top = lazy.add(*store, {});
  ref others[] = {lazy.add(*store, {}), lazy.add(*store, {})};
  constexpr std::size_t count = 3'000;
  for (std::size_t i = 0; i < count; ++i) {
    std::vector<ref> both{top, others[i % 2]};
    top = must(store->merge(both, {}));
  }
  CHECK(layers_of(*store, top).size() == count + 1);
  auto id = top.id();
  top = {};
  for (auto& other : others) other = {};
  store.reset();
  store = open_store(root);
  auto again = store->get(id);
  REQUIRE(again.ok());
  CHECK(layers_of(*store, *again).size() == count + 1);
}

TEST_CASE("a snapshot on top of as many layers as there may be is refused") {
  temporary_root root;
  lazy_layers lazy;
  auto store = open_store(root);
  auto half = lazy.add(*store, {}, 0);
  for (std::size_t i = 1; i < limits::state_layers / 2; ++i) half = lazy.add(*store, half, 0);
  std::vector<ref> twice{half, half};
  auto full = must(store->merge(twice, {}));
  auto above = store->create(full, {}, {});
  REQUIRE_FALSE(above.ok());
  CHECK(above.error().message == "a file system of 10001 layers: at most 10000 are allowed");
}
