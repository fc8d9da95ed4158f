// From what actors say of a build's steps to what a cache export takes. Pure.
#pragma once

#include "exporters/cache/collect.hpp"
#include "exporters/cache/import_table.hpp"
#include "messages/cache_types.hpp"

namespace kiln::actors {

/// Finds each result's step by its keys, each step's inputs by vertex and output; imports that are gone
/// are left out.
exporters::cache_scope scope_of(const cache_trail& trail, const exporters::import_table* imports);

}  // namespace kiln::actors
