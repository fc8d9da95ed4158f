// Where in which daemon an error came about, as BuildKit's clients show it with --debug: a Stack detail.
#pragma once

#include <source_location>

#include "messages/stack_text.hpp"

namespace kiln::actors {

/// Adds the detail unless the error has one already: the first to know is nearest to the cause.
/// Source: BuildKit util/stack/stack.go.
void add_stack(error& e, std::source_location where = std::source_location::current());

}  // namespace kiln::actors
