// Which layers a state is made of, by name.
#pragma once

#include <string>
#include <vector>

#include "store/records/ref.hpp"

namespace kiln::store {

/// The records whose layers make up the state, bottom first.
std::vector<std::string> layer_ids(const ref& r);

}  // namespace kiln::store
