// The `build` command from flags to exit code.
#pragma once

#include "base/result.hpp"
#include "client/flags/flags.hpp"
#include "client/interrupt.hpp"

namespace kiln::client {

/// Source: buildctl build.go buildAction.
status run_build(const global_flags& global, const build_flags& flags, interrupt_handler& interrupts);

}  // namespace kiln::client
