// Where in which daemon an error came about, as BuildKit's clients show it with --debug: a Stack detail.
#pragma once

#include "base/source_location.hpp"
#include "messages/stack_text.hpp"

namespace kiln::actors {

/// Adds the detail unless the error has one already: the first to know is nearest to the cause.
/// Source: BuildKit util/stack/stack.go.
void add_stack(error& e, source_location where = source_location::current());

}  // namespace kiln::actors
