// More layers than one overlay takes: what is mounted is what a file system without that limit would show.
#include "configs/store.hpp"
#include "store_fixture.hpp"

#include <pthread.h>

using namespace kiln;
using namespace kiln::store;
using namespace kiln::store::testing;

namespace {

using files = std::map<std::string, std::string>;

/// What layer i of the stacks here does, to a tree and to the model of it.
void change(const fs::path& root, files& model, int i) {
  auto put = [&](const std::string& name, const std::string& text) {
    write(root / name, text);
    model[name] = text;
  };
  auto drop = [&](const std::string& name) {
    fs::remove(root / name);
    model.erase(name);
  };
  put("file" + std::to_string(i), "made by " + std::to_string(i));
  put("shared", "changed by " + std::to_string(i));
  if (i % 3 == 2) drop("file" + std::to_string(i - 1));
  if (i % 100 == 50) put("again" + std::to_string(i / 100), "first");
  if (i % 100 == 70) drop("again" + std::to_string(i / 100));
  if (i % 100 == 90) put("again" + std::to_string(i / 100), "second");
}

files listed(ref_store& store, const ref& r) { return listing(store, r); }

int flat_forms(ref_store& store) {
  int n = 0;
  for (const auto& u : must(store.space().disk_usage({}))) n += u.description.ends_with(" as one");
  return n;
}

std::string layer_tar(int i) {
  auto name = std::to_string(i);
  tar_builder tar;
  tar.file("file" + name, "made by " + name).file("shared", "changed by " + name);
  if (i % 3 == 2) tar.file(".wh.file" + std::to_string(i - 1), "");
  return tar.text();
}

}  // namespace

TEST_CASE("A chain of 700 layers shows what its steps did, for reading, writing and after a restart") {
  temporary_root root;
  auto store = open_store(root);
  files model;
  ref top;
  for (int i = 0; i < 700; ++i) {
    auto s = begin(*store, top);
    change(s.path(), model, i);
    top = end(*store, std::move(s));
    if (i == 499 || i == 500) CHECK(listed(*store, top) == model);
  }
  CHECK(listed(*store, top) == model);
  // Every step of the chain stands on the same ones.
  if (store->snapshotter() != snapshotter_kind::native) CHECK(flat_forms(*store) == 2);
  string_sink tar;
  must(store->layers().write_tar(top.id(), tar, {}));
  CHECK(tar.text.find("file699") != std::string::npos);
  CHECK(tar.text.find("file1\n") == std::string::npos);

  auto id = top.id();
  top = ref();
  store.reset();
  store = open_store(root);
  top = must(store->get(id));
  CHECK(listed(*store, top) == model);
  if (store->snapshotter() != snapshotter_kind::native) CHECK(flat_forms(*store) == 2);
  // In use they stay, and go with what they are of.
  must(store->space().prune({.all = true}, nullptr));
  CHECK(listed(*store, top) == model);
  top = ref();
  must(store->space().prune({.all = true}, nullptr));
  CHECK(must(store->space().disk_usage({})).empty());
}

TEST_CASE("An image of 600 layers is unpacked and mounted") {
  temporary_root root;
  auto store = open_store(root);
  auto provider = std::make_shared<memory_provider>();
  files model;
  ref top;
  for (int i = 0; i < 600; ++i) {
    model["file" + std::to_string(i)] = "made by " + std::to_string(i);
    model["shared"] = "changed by " + std::to_string(i);
    if (i % 3 == 2) model.erase("file" + std::to_string(i - 1));
    top = must(store->layer(top, provider->add(layer_tar(i)), provider, {}));
  }
  CHECK(listed(*store, top) == model);
  auto step = layer_of(*store, top, {{"shared", "by the step"}, {"file0", nullptr}});
  model["shared"] = "by the step";
  model.erase("file0");
  CHECK(listed(*store, step) == model);
}

TEST_CASE("A merge of 600 layers shows what later ones put over earlier ones") {
  temporary_root root;
  auto store = open_store(root);
  auto base = layer_of(*store, {}, {{"base", "x"}, {"removed", "x"}});
  files model{{"base", "x"}};
  std::vector<ref> inputs{base};
  for (int i = 0; i < 600; ++i) {
    auto name = std::to_string(i);
    auto shared = "by " + name;
    // Every tenth changes what lies below, on ground of its own.
    auto on = i % 10 == 0 ? base : ref();
    std::map<std::string, const char*> changed{{"own" + name, "x"}, {"shared", shared.c_str()}};
    if (on) changed["removed"] = nullptr;
    auto one = layer_of(*store, on, changed);
    inputs.push_back(on ? must(store->diff(base, one, {})) : one);
    model["own" + name] = "x";
    model["shared"] = shared;
  }
  auto merged = must(store->merge(inputs, {}));
  CHECK(listed(*store, merged) == model);
  auto step = layer_of(*store, merged, {{"own0", nullptr}});
  model.erase("own0");
  CHECK(listed(*store, step) == model);
  auto reversed = std::vector<ref>(inputs.rbegin(), inputs.rend());
  model["own0"] = "x";
  model["shared"] = "by 0";
  model["removed"] = "x";
  CHECK(listed(*store, must(store->merge(reversed, {}))) == model);
}

TEST_CASE("As many records on each other as may be come and go without one call inside the other") {
  temporary_root root;
  auto provider = std::make_shared<memory_provider>();
  auto blob = provider->add(tar_builder().file("f", "x").text());
  auto come_and_go = [&] {
    auto store = open_store(root);
    ref top;
    for (std::size_t i = 0; i < limits::state_layers; ++i) {
      blob.diff_id = sha256(std::to_string(i));
      top = must(store->layer(top, blob, provider, {}));
    }
    auto id = top.id();
    top = ref();  // all of them go
    store.reset();
    store = open_store(root);
    CHECK(store->space().record_count() == limits::state_layers);
    must(store->space().prune({.filters = {"id==none"}}, nullptr));
    CHECK(store->get(id).error().code == errc::not_found);  // there is nothing to bring its blobs any more
  };
  // On a stack on which a call inside the other would be seen.
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 512 * 1024);
  pthread_t thread;
  auto made = pthread_create(
      &thread, &attributes,
      [](void* work) -> void* { return (*static_cast<decltype(come_and_go)*>(work))(), nullptr; },
      &come_and_go);
  if (made == 0) pthread_join(thread, nullptr);  // Catch's checks are one thread's at a time
  pthread_attr_destroy(&attributes);
  REQUIRE(made == 0);
}
