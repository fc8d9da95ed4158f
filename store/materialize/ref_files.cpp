#include "store/materialize/ref_files.hpp"

#include <string>

#include <spdlog/spdlog.h>

#include "base/digest.hpp"
#include "configs/store.hpp"
#include "store/files/copy_tree.hpp"
#include "store/files/difference.hpp"
#include "store/layers/layer_plan.hpp"
#include "store/materialize/materializer.hpp"
#include "store/records/record_table.hpp"

namespace kiln::store {

namespace fs = std::filesystem;

namespace {

constexpr const char* normalized_key = "store.plain";  // as it is on disk since the first version

std::vector<std::uint64_t> numbers_of(const std::vector<record_ptr>& layers) {
  std::vector<std::uint64_t> numbers;
  for (const auto& layer : layers) numbers.push_back(layer->snapshot());
  return numbers;
}

}  // namespace

ref_files::ref_files(record_table& records, materializer& maker)
    : records_(records), root_(records.root()), maker_(maker) {}

status ref_files::materialize(const ref& r, const job_context& job) { return maker_.make(r.get(), job); }

result<std::vector<mount_spec>> ref_files::mounts(const ref& r, const job_context& job) {
  return mounts_of(r.get(), job);
}

result<std::vector<mount_spec>> ref_files::mounts_of(const record_ptr& r, const job_context& job) {
  auto& snapshots = root_.snapshots();
  if (!r) return std::vector{snapshots.read_only({}, false)};
  KILN_CHECK(maker_.make(r, job));
  if (!snapshots.layered()) {
    std::vector<std::uint64_t> own{r->snapshot()};
    return std::vector{snapshots.read_only(own, false)};
  }
  KILN_TRY(auto layers, mount_layers(r, job));
  bool whiteouts = layers.size() == 1 && (!layers[0]->parents().empty() || !layers[0]->origin.empty());
  return std::vector{snapshots.read_only(numbers_of(layers), whiteouts)};
}

result<std::vector<mount_spec>> ref_files::mounts(const mutable_ref& m) {
  if (!m) return make_error(errc::invalid_argument, "mount of an empty reference");
  const auto& r = m.get();
  std::vector<std::uint64_t> below;
  if (!r->parents().empty() && root_.snapshots().layered()) {
    KILN_TRY(auto layers, mount_layers(r->parents()[0], {}));
    below = numbers_of(layers);
  }
  KILN_TRY(auto spec, root_.snapshots().read_write(r->snapshot(), below));
  return std::vector{std::move(spec)};
}

result<fs::path> ref_files::state_directory(const record_ptr& r, std::optional<mounted>& mount,
                                            const job_context& job) {
  KILN_TRY(auto specs, mounts_of(r, job));
  if (specs.size() == 1 && specs[0].type == "bind") return fs::path(specs[0].source);
  KILN_TRY(mount, mounted::make(root_.scratch(), specs));
  return mount->path();
}

result<std::vector<record_ptr>> ref_files::mount_layers(const record_ptr& r, const job_context& job) {
  KILN_CHECK(maker_.make_layers(dedupe_layers(flatten(r)), job));
  std::vector<record_ptr> all;
  for (auto& p : place_layers(r)) {
    if (p.rebased) {
      KILN_TRY(bool fits, is_normalized(p.layer, job));
      if (!fits) {
        KILN_TRY(p.layer, normalized_layer(p.layer, p.rebased, job));
      }
    }
    all.push_back(std::move(p.layer));
  }
  all = dedupe_layers(all);
  KILN_CHECK(maker_.make_layers(all, job));
  while (all.size() > limits::stacked_layers) {
    auto cut = all.begin() + static_cast<std::ptrdiff_t>(limits::stacked_layers);
    KILN_TRY(auto flat, flat_form({all.begin(), cut}, r, job));
    all.erase(all.begin() + 1, cut);
    all.front() = std::move(flat);
  }
  return all;
}

// ---------------------------------------------------------------- forms of layers

/// A form that is in memory or at rest; null when none is.
record_ptr ref_files::known_form(const record_ptr& of, const std::string& key) {
  if (auto form = of->form(key)) return form;
  auto id = root_.values().of_record(of->id, key);
  if (!id) return nullptr;
  auto loaded = records_.load(*id);
  return loaded.ok() && (*loaded)->computed ? *std::move(loaded) : nullptr;
}

void ref_files::keep_form(const record_ptr& of, const std::string& key, const record_ptr& form) {
  if (auto kept = root_.values().set_of_record(of->id, key, form->id); !kept)
    spdlog::warn("store: {}", kept.error().message);
}

result<bool> ref_files::is_normalized(const record_ptr& layer, const job_context& job) {
  if (!is_made_on_parent(layer)) return true;
  if (auto known = layer->is_normalized()) return *known;
  KILN_CHECK(maker_.make_layers({layer}, job));
  std::optional<mounted> mount;
  KILN_TRY(auto lower, state_directory(layer->parents()[0], mount, job));
  KILN_TRY(bool is, holds_only_changes(lower, root_.snapshots().fs_of(layer->snapshot()),
                                       root_.snapshots().user_namespace(), job));
  layer->set_normalized(is);
  return is;
}

result<record_ptr> ref_files::normalized_layer(const record_ptr& layer, const record_ptr& user,
                                               const job_context& job) {
  auto form = known_form(layer, normalized_key);
  if (!form) {
    auto data = record_table::fresh(record_kind::diff, {.description = "normalized layer of " + layer->id});
    data.set_computed(true);
    form = records_.admit(std::move(data), {layer->parents()[0], layer});
    records_.save(form, false);
    keep_form(layer, normalized_key, form);
  }
  layer->set_form(normalized_key, form);
  user->pin(form);
  KILN_CHECK(maker_.make_layers({form}, job));
  return form;
}

/// The lowest layers of a mount as one: a copy of what they show together. Always as many, so that mounts on
/// the same layers share it.
result<record_ptr> ref_files::flat_form(const std::vector<record_ptr>& layers, const record_ptr& user,
                                        const job_context& job) {
  std::string ids;
  for (const auto& layer : layers) ids += layer->id + '\n';
  auto key = "store.flat." + std::string(sha256(ids).hex());
  const auto& top = layers.back();
  KILN_TRY(auto turn, flat_turns_.wait(key, job.stop));
  auto form = known_form(top, key);
  if (!form || form->snapshot() == 0) {
    KILN_TRY(form, make_flat(layers, job));
    keep_form(top, key, form);
  }
  top->set_form(key, form);
  user->pin(form);
  return form;
}

result<record_ptr> ref_files::make_flat(const std::vector<record_ptr>& layers, const job_context& job) {
  auto name = "merging " + std::to_string(layers.size()) + " layers";
  job.progress->progress(name, 0, 0, false);
  auto made = root_.make_snapshot([&](const fs::path& target) -> status {
    KILN_TRY(auto mount,
             mounted::make(root_.scratch(), {root_.snapshots().read_only(numbers_of(layers), true)}));
    return copy_tree(mount.path(), target, {}, job);
  });
  if (!made.ok()) return std::move(made).error().with_context(name);
  const auto& top = layers.back();
  auto data = record_table::fresh(record_kind::diff, {.description = "layers up to " + top->id + " as one"});
  data.set_computed(true);
  data.set_snapshot(*made);
  auto form = records_.admit(std::move(data), {nullptr, top});
  records_.save(form, true);
  job.progress->progress(name, 0, 0, true);
  return form;
}

}  // namespace kiln::store
