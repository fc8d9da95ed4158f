// Which layers a record is made of, and which an overlay of it mounts.
#include <algorithm>
#include <optional>

#include <spdlog/spdlog.h>

#include "configs/store.hpp"
#include "store/files/copy_tree.hpp"
#include "store/files/difference.hpp"
#include "store/store_core.hpp"

namespace kiln::store {

namespace {

std::size_t layers_of(const record_ptr& r) { return r ? r->shape.layers : 0; }
std::size_t nested_in(const record_ptr& r) { return r ? r->shape.nested : 0; }

}  // namespace

state_shape store_core::shape_of(record_kind kind, bool computed, const std::vector<record_ptr>& parents) {
  state_shape out;
  switch (kind) {
    case record_kind::layer:
      out.layers = 1;
      if (!parents.empty()) out = {layers_of(parents[0]) + 1, {}, nested_in(parents[0])};
      return out;
    case record_kind::merge:
      for (std::size_t i = 0; i < parents.size(); ++i) {
        out.layers += layers_of(parents[i]);
        // What lies on another parent than it was made on may need a form of its own, made beside its
        // original parent.
        out.nested = std::max(out.nested, nested_in(parents[i]) + (i == 0 ? 0 : 1));
      }
      return out;
    case record_kind::diff: {
      const auto &lower = parents[0], &upper = parents[1];
      out.nested = std::max(nested_in(lower), nested_in(upper)) + 1;
      out.layers = 1;
      if (computed || layers_of(lower) > layers_of(upper)) return out;
      auto below = flatten(lower), all = flatten(upper);
      if (!std::equal(below.begin(), below.end(), all.begin())) return out;
      out.left_out = below.size();
      out.layers = all.size() - below.size();
      return out;
    }
  }
  return out;
}

status store_core::check_shape(const state_shape& shape) {
  auto refuse = [](const char* what, std::size_t count, std::size_t count_max) {
    return make_error(errc::resource_exhausted, std::string("a file system of ") + std::to_string(count) +
                                                    what + ": at most " + std::to_string(count_max) +
                                                    " are allowed");
  };
  if (shape.layers > limits::state_layers) return refuse(" layers", shape.layers, limits::state_layers);
  if (shape.nested > limits::state_nesting)
    return refuse(" merges and differences within each other", shape.nested, limits::state_nesting);
  return {};
}

std::vector<store_core::placed_layer> store_core::place_layers(const record_ptr& r) {
  // A stretch of a record's layers, or layers that are known already; what is on top comes first.
  struct piece {
    record_ptr of;
    std::size_t from = 0, to = 0;
    record_ptr by;
    std::vector<record_ptr> known = {};
  };
  std::vector<placed_layer> out;
  std::vector<piece> open;
  auto add = [&](const record_ptr& of, std::size_t from, std::size_t to, const record_ptr& by) {
    if (from < to) open.push_back({of, from, to, by});
  };
  add(r, 0, layers_of(r), nullptr);
  while (!open.empty()) {
    auto p = std::move(open.back());
    open.pop_back();
    for (auto& layer : p.known) out.push_back({std::move(layer), p.by});
    if (!p.of) continue;
    switch (p.of->kind()) {
      case record_kind::layer: {
        // Plain layers one on the other, top first, down to a merge, a difference or nothing.
        auto ground = p.of;
        while (ground && ground->kind() == record_kind::layer && layers_of(ground) > p.from) {
          if (layers_of(ground) <= p.to) p.known.push_back(ground);
          ground = ground->parents.empty() ? nullptr : ground->parents[0];
        }
        std::reverse(p.known.begin(), p.known.end());
        open.push_back({nullptr, 0, 0, p.by, std::move(p.known)});
        add(ground, p.from, std::min(p.to, layers_of(ground)), p.by);
        break;
      }
      case record_kind::merge: {
        auto end = p.of->shape.layers;
        for (std::size_t i = p.of->parents.size(); i-- > 0;) {
          const auto& input = p.of->parents[i];
          auto begin = end - layers_of(input);
          add(input, std::max(p.from, begin) - begin, std::max(std::min(p.to, end), begin) - begin,
              i == 0 || p.by ? p.by : p.of);
          end = begin;
        }
        // The lowest is on top of what is open now: it comes next.
        break;
      }
      case record_kind::diff:
        if (p.of->shape.left_out)
          add(p.of->parents[1], p.from + *p.of->shape.left_out, p.to + *p.of->shape.left_out,
              p.by ? p.by : p.of);
        else out.push_back({p.of, nullptr});
        break;
    }
  }
  return out;
}

std::vector<record_ptr> store_core::flatten(const record_ptr& r) {
  std::vector<record_ptr> layers;
  for (auto& p : place_layers(r)) layers.push_back(std::move(p.layer));
  return layers;
}

std::vector<record_ptr> store_core::dedupe_layers(const std::vector<record_ptr>& layers) {
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
  KILN_CHECK(ensure_layers(dedupe_layers(flatten(r)), job));
  auto placed = place_layers(r);
  std::vector<record_ptr> all;
  for (auto& p : placed) {
    if (p.rebased) {
      KILN_TRY(auto plain, is_plain(p.layer, job));
      if (!plain) {
        KILN_TRY(p.layer, normalized_layer(p.layer, p.rebased, job));
      }
    }
    all.push_back(std::move(p.layer));
  }
  all = dedupe_layers(all);
  KILN_CHECK(ensure_layers(all, job));
  while (all.size() > limits::stacked_layers) {
    auto cut = all.begin() + static_cast<std::ptrdiff_t>(limits::stacked_layers);
    KILN_TRY(auto flat, flat_form({all.begin(), cut}, r, job));
    all.erase(all.begin() + 1, cut);
    all.front() = std::move(flat);
  }
  return all;
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

result<record_ptr> store_core::normalized_layer(const record_ptr& layer, const record_ptr& user,
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
    auto made = fresh(record_kind::diff, {.description = "normalized layer of " + layer->id});
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

/// The lowest layers of a mount as one: a copy of what they show together. Always as many, so that mounts on
/// the same ground share it.
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
    if (auto kept = set_metadata(top->id, key, flat->id); !kept)
      spdlog::warn("store: {}", kept.error().message);
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
