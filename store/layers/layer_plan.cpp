#include "store/layers/layer_plan.hpp"

#include <algorithm>
#include <unordered_set>

#include "configs/store.hpp"

namespace kiln::store {

namespace {

std::size_t layers_of(const record_ptr& r) { return r ? r->shape.layers : 0; }
std::size_t nested_in(const record_ptr& r) { return r ? r->shape.nested : 0; }

}  // namespace

state_shape shape_of(record_kind kind, bool computed, const std::vector<record_ptr>& parents) {
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

status check_shape(const state_shape& shape) {
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

std::vector<placed_layer> place_layers(const record_ptr& r) {
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
    switch (p.of->kind) {
      case record_kind::layer: {
        // Plain layers one on the other, top first, down to a merge, a difference or nothing.
        auto base = p.of;
        while (base && base->kind == record_kind::layer && layers_of(base) > p.from) {
          if (layers_of(base) <= p.to) p.known.push_back(base);
          base = base->parents().empty() ? nullptr : base->parents()[0];
        }
        std::reverse(p.known.begin(), p.known.end());
        open.push_back({nullptr, 0, 0, p.by, std::move(p.known)});
        add(base, p.from, std::min(p.to, layers_of(base)), p.by);
        break;
      }
      case record_kind::merge: {
        auto end = p.of->shape.layers;
        for (std::size_t i = p.of->parents().size(); i-- > 0;) {
          const auto& input = p.of->parents()[i];
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
          add(p.of->parents()[1], p.from + *p.of->shape.left_out, p.to + *p.of->shape.left_out,
              p.by ? p.by : p.of);
        else out.push_back({p.of, nullptr});
        break;
    }
  }
  return out;
}

std::vector<record_ptr> flatten(const record_ptr& r) {
  std::vector<record_ptr> layers;
  for (auto& p : place_layers(r)) layers.push_back(std::move(p.layer));
  return layers;
}

std::vector<record_ptr> dedupe_layers(const std::vector<record_ptr>& layers) {
  std::vector<record_ptr> kept;
  std::unordered_set<const record*> seen;
  for (auto layer = layers.rbegin(); layer != layers.rend(); ++layer)
    if (seen.insert(layer->get()).second) kept.push_back(*layer);
  std::reverse(kept.begin(), kept.end());
  return kept;
}

bool is_made_on_parent(const record_ptr& r) {
  return r->kind == record_kind::layer && !r->parents().empty() && !r->rebased;
}

record_sides sides_of(const record_ptr& r) {
  if (r->kind == record_kind::diff) return {r->parents()[0], r->parents()[1]};
  return {r->parents().empty() ? nullptr : r->parents()[0], r};
}

}  // namespace kiln::store
