// Which layers a record is made of, and which an overlay of it mounts.
#include <algorithm>
#include <optional>

#include <spdlog/spdlog.h>

#include "configs/store.hpp"
#include "store/copy_tree.hpp"
#include "store/difference.hpp"
#include "store/store_core.hpp"

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
  std::vector<placed_layer> placed;
  place_layers(r, nullptr, placed);
  std::vector<record_ptr> all;
  for (auto& p : placed) {
    if (p.on_foreign_ground) {
      KILN_TRY(auto plain, is_plain(p.layer, job));
      if (!plain) {
        KILN_TRY(p.layer, plain_form(p.layer, p.on_foreign_ground, job));
      }
    }
    all.push_back(std::move(p.layer));
  }
  all = once(all);
  KILN_CHECK(ensure_layers(all, job));
  while (all.size() > limits::stacked_layers) {
    auto cut = all.begin() + static_cast<std::ptrdiff_t>(limits::stacked_layers);
    KILN_TRY(auto flat, flat_form({all.begin(), cut}, r, job));
    all.erase(all.begin() + 1, cut);
    all.front() = std::move(flat);
  }
  return all;
}

/// As flatten(), with who puts them on foreign ground: a merge its later inputs, a difference what it reuses.
void store_core::place_layers(const record_ptr& r, const record_ptr& by, std::vector<placed_layer>& out) {
  if (!r) return;
  switch (r->kind()) {
    case record_kind::layer: {
      auto [top_down, ground] = stacked(r);
      place_layers(ground, by, out);
      for (auto layer = top_down.rbegin(); layer != top_down.rend(); ++layer) out.push_back({*layer, by});
      return;
    }
    case record_kind::merge:
      for (std::size_t i = 0; i < r->parents.size(); ++i)
        place_layers(r->parents[i], i == 0 || by ? by : r, out);
      return;
    case record_kind::diff: {
      auto own = flatten(r);
      if (own.size() == 1 && own[0] == r) {
        out.push_back({r, nullptr});
        return;
      }
      std::vector<placed_layer> upper;  // as long as flatten() of it
      place_layers(r->parents[1], by ? by : r, upper);
      out.insert(out.end(), upper.end() - static_cast<std::ptrdiff_t>(own.size()), upper.end());
      return;
    }
  }
}

bool store_core::has_own_ground(const record_ptr& r) {
  return r->kind() == record_kind::layer && !r->parents.empty() && !r->copy().rebased();
}

result<bool> store_core::is_plain(const record_ptr& layer, const job_context& job) {
  if (!has_own_ground(layer)) return true;
  {
    std::lock_guard lock(layer->mutex);
    if (layer->is_plain) return *layer->is_plain;
  }
  KILN_CHECK(ensure_layers({layer}, job));
  std::optional<scoped_mount> mount;
  KILN_TRY(auto lower, state_directory(layer->parents[0], mount, job));
  KILN_TRY(auto plain, holds_only_changes(lower, snapshots_->fs_of(layer->snapshot()),
                                          snapshots_->user_namespace(), job));
  std::lock_guard lock(layer->mutex);
  layer->is_plain = plain;
  return plain;
}

result<record_ptr> store_core::plain_form(const record_ptr& layer, const record_ptr& user,
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
    std::lock_guard lock(user->mutex);
    if (std::find(user->pins.begin(), user->pins.end(), plain) == user->pins.end())
      user->pins.push_back(plain);
  }
  KILN_CHECK(ensure_layers({plain}, job));
  return plain;
}

/// The lowest layers of a mount as one: a copy of what they show together. Always as many, so that mounts on the
/// same ground share it.
result<record_ptr> store_core::flat_form(const std::vector<record_ptr>& layers, const record_ptr& user,
                                         const job_context& job) {
  std::string ids;
  for (const auto& layer : layers) ids += layer->id + '\n';
  auto key = "store.flat." + std::string(sha256(ids).hex());
  const auto& top = layers.back();
  KILN_TRY(auto turn, flats_.wait(key, job.stop));
  record_ptr flat;
  {
    std::lock_guard lock(top->mutex);
    if (auto known = top->flats.find(key); known != top->flats.end()) flat = known->second.lock();
  }
  if (!flat)
    if (auto id = metadata(top->id, key))
      if (auto loaded = load(*id); loaded.ok() && (*loaded)->snapshot() != 0) flat = *loaded;
  if (!flat) {
    auto name = "merging " + std::to_string(layers.size()) + " layers";
    job.progress->progress(name, 0, 0, false);
    KILN_TRY(auto number, snapshots_->create());
    auto copied = [&]() -> status {
      KILN_TRY(auto mount, scoped_mount::make(*this, {snapshots_->read_only(numbers_of(layers), true)}));
      return copy_tree(mount.path(), snapshots_->fs_of(number), {}, job);
    }();
    if (!copied) {
      if (auto gone = snapshots_->remove(number); !gone) spdlog::warn("store: {}", gone.error().message);
      return std::move(copied).error().with_context(name);
    }
    auto made = fresh(record_kind::diff, {.description = "layers up to " + top->id + " as one"});
    made.set_computed(true);
    made.set_snapshot(number);
    flat = admit(std::move(made), {nullptr, top});
    store_record(flat, true);
    if (auto kept = set_metadata(top->id, key, flat->id); !kept) spdlog::warn("store: {}", kept.error().message);
    job.progress->progress(name, 0, 0, true);
  }
  {
    std::lock_guard lock(top->mutex);
    top->flats[key] = flat;
  }
  std::lock_guard lock(user->mutex);
  if (std::find(user->pins.begin(), user->pins.end(), flat) == user->pins.end()) user->pins.push_back(flat);
  return flat;
}

}  // namespace kiln::store
