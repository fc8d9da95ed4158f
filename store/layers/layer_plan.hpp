// Which layers a record's state is made of: pure, of what never changes of records. Private to the store.
#pragma once

#include <vector>

#include "base/result.hpp"
#include "store/records/record.hpp"

namespace kiln::store {

/// The layers a record's state is made of, bottom first; those that occur twice are there twice.
/// A record that must be computed (a real difference) stands for itself. Costs what it returns, and a
/// little for every merge and difference on the way, however deep.
std::vector<record_ptr> flatten(const record_ptr& r);

/// A layer where it lies in a state.
struct placed_layer {
  record_ptr layer;
  record_ptr rebased;  // the record that put it there; null: it lies where it was made
};
/// As flatten(), with who puts them on another parent: a merge its later inputs, a difference what it reuses.
std::vector<placed_layer> place_layers(const record_ptr& r);

/// Each layer at its topmost place only: one that comes again covers all that its earlier place shows.
std::vector<record_ptr> dedupe_layers(const std::vector<record_ptr>& layers);

/// Whether it is a layer that was made on its parent, so that what it changed is known by comparing the two.
bool is_made_on_parent(const record_ptr& r);

/// The two states whose difference a layer or difference is; null is scratch.
struct record_sides {
  record_ptr lower, upper;
};
record_sides sides_of(const record_ptr& r);

state_shape shape_of(record_kind kind, bool computed, const std::vector<record_ptr>& parents);
/// resource_exhausted when a state would be of more layers, or nested deeper, than allowed.
status check_shape(const state_shape& shape);

}  // namespace kiln::store
