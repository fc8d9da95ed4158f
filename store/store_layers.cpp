// Which layers a record is made of, and which an overlay of it mounts.
#include <algorithm>

#include <spdlog/spdlog.h>

#include "configs/store.hpp"
#include "store/store_core.hpp"
#include "store/xattr.hpp"

namespace kiln::store {

namespace {

/// Plain layers one on the other, top first, and what the lowest stands on: null, a merge or a difference.
struct stack {
  std::vector<record_ptr> top_down;
  record_ptr ground;
};

stack stacked(const record_ptr& top) {
  stack s{{}, top};
  while (s.ground && s.ground->kind() == record_kind::layer) {
    s.top_down.push_back(s.ground);
    s.ground = s.ground->parents.empty() ? nullptr : s.ground->parents[0];
  }
  return s;
}

}  // namespace

std::vector<record_ptr> store_core::flatten(const record_ptr& r) {
  std::vector<record_ptr> layers;
  if (!r) return layers;
  switch (r->kind()) {
    case record_kind::layer: {
      auto [top_down, ground] = stacked(r);
      layers = flatten(ground);
      layers.insert(layers.end(), top_down.rbegin(), top_down.rend());
      break;
    }
    case record_kind::merge:
      for (const auto& input : r->parents) {
        auto more = flatten(input);
        layers.insert(layers.end(), more.begin(), more.end());
      }
      break;
    case record_kind::diff: {
      auto lower = flatten(r->parents[0]);
      auto upper = flatten(r->parents[1]);
      bool built_on = !r->computed && lower.size() <= upper.size() &&
                      std::equal(lower.begin(), lower.end(), upper.begin());
      if (built_on) layers.assign(upper.begin() + static_cast<std::ptrdiff_t>(lower.size()), upper.end());
      else layers.push_back(r);
      break;
    }
  }
  return layers;
}

std::vector<record_ptr> store_core::once(const std::vector<record_ptr>& layers) {
  std::vector<record_ptr> kept;
  std::unordered_set<const record*> seen;
  for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer)
    if (seen.insert(layer->get()).second) kept.push_back(*layer);
  std::reverse(kept.begin(), kept.end());
  return kept;
}

std::vector<std::uint64_t> store_core::numbers_of(const std::vector<record_ptr>& layers) {
  std::vector<std::uint64_t> numbers;
  for (const auto& layer : layers) numbers.push_back(layer->snapshot());
  return numbers;
}

result<std::vector<record_ptr>> store_core::mount_layers(const record_ptr& r, const job_context& job) {
  KILN_CHECK(ensure_layers(once(flatten(r)), job));
  std::vector<record_ptr> all;
  KILN_CHECK(collect_mount_layers(r, nullptr, all, job));
  all = once(all);
  KILN_CHECK(ensure_layers(all, job));
  return all;
}

/// As flatten(), layer by layer, with those that `merge` puts on foreign ground in their plain form.
status store_core::collect_mount_layers(const record_ptr& r, const record_ptr& merge,
                                        std::vector<record_ptr>& out, const job_context& job) {
  if (!r) return {};
  auto put = [&](const record_ptr& layer) -> status {
    if (merge) {
      KILN_TRY(auto opaque, has_opaque(layer));
      if (opaque) {
        KILN_TRY(auto plain, plain_form(layer, merge, job));
        out.push_back(std::move(plain));
        return {};
      }
    }
    out.push_back(layer);
    return {};
  };
  switch (r->kind()) {
    case record_kind::layer: {
      auto [top_down, ground] = stacked(r);
      KILN_CHECK(collect_mount_layers(ground, merge, out, job));
      for (auto layer = top_down.rbegin(); layer != top_down.rend(); ++layer) KILN_CHECK(put(*layer));
      return {};
    }
    case record_kind::merge:
      for (std::size_t i = 0; i < r->parents.size(); ++i)
        KILN_CHECK(collect_mount_layers(r->parents[i], i == 0 || merge ? merge : r, out, job));
      return {};
    case record_kind::diff: {
      auto own = flatten(r);
      if (own.size() == 1 && own[0] == r) {
        out.push_back(r);
        return {};
      }
      std::vector<record_ptr> upper;  // as long as flatten() of it
      KILN_CHECK(collect_mount_layers(r->parents[1], merge, upper, job));
      out.insert(out.end(), upper.end() - static_cast<std::ptrdiff_t>(own.size()), upper.end());
      return {};
    }
  }
  return {};
}

namespace {

result<bool> find_opaque(int directory, const std::string& attribute, int depth) {
  if (depth > limits::tree_depth) return make_error(errc::out_of_range, "directories are nested too deeply");
  KILN_TRY(auto names, list_names(directory));
  for (const auto& name : names) {
    auto child = open_at(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK);
    if (!child.ok()) continue;  // no directory
    auto value = get_xattr(directory, name, attribute);
    if (value.ok() && *value == "y") return true;
    KILN_TRY(auto inside, find_opaque(child->get(), attribute, depth + 1));
    if (inside) return true;
  }
  return false;
}

}  // namespace

result<bool> store_core::has_opaque(const record_ptr& layer) {
  if (layer->kind() != record_kind::layer || layer->parents.empty()) return false;  // nothing below to hide
  std::uint64_t number = 0;
  {
    std::lock_guard lock(layer->mutex);
    if (layer->opaque) return *layer->opaque;
    number = layer->data.snapshot();
  }
  if (number == 0) return false;
  KILN_TRY(auto directory, open_file(snapshots_->fs_of(number), O_RDONLY | O_DIRECTORY));
  KILN_TRY(auto found,
           find_opaque(directory.get(), overlay_xattr(snapshots_->user_namespace(), "opaque"), 0));
  std::lock_guard lock(layer->mutex);
  layer->opaque = found;
  return found;
}

/// What the layer changed over its own parent, with every removal a whiteout of its own.
result<record_ptr> store_core::plain_form(const record_ptr& layer, const record_ptr& merge,
                                          const job_context& job) {
  constexpr std::string_view key = "store.plain";
  record_ptr plain;
  {
    std::lock_guard lock(layer->mutex);
    plain = layer->plain.lock();
  }
  if (!plain)
    if (auto id = metadata(layer->id, key))
      if (auto loaded = load(*id); loaded.ok() && (*loaded)->computed) plain = *loaded;
  if (!plain) {
    auto made = fresh(record_kind::diff, {.description = "plain form of " + layer->id});
    made.set_computed(true);
    plain = admit(std::move(made), {layer->parents[0], layer});
    store_record(plain, false);
    if (auto kept = set_metadata(layer->id, key, plain->id); !kept)
      spdlog::warn("store: {}", kept.error().message);
  }
  {
    std::lock_guard lock(layer->mutex);
    layer->plain = plain;
  }
  {
    std::lock_guard lock(merge->mutex);
    if (std::find(merge->pins.begin(), merge->pins.end(), plain) == merge->pins.end())
      merge->pins.push_back(plain);
  }
  KILN_CHECK(ensure_layers({plain}, job));
  return plain;
}

}  // namespace kiln::store
