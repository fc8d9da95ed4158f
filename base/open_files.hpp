// How many files may be open at once (RLIMIT_NOFILE). A daemon needs many: copies hold two for each level of
// a tree, pulls and clients one and more each. Programs get what the daemon was given, for what is usual is
// low on purpose: some close or scan all that might be open, or use select(2).
#pragma once

#include "base/result.hpp"

namespace kiln {

/// Raises the soft limit to the hard one. Once, before there are other threads.
status raise_open_files();
/// Takes that back, in a child that is about to run another program. Async-signal-safe.
void restore_open_files() noexcept;

}  // namespace kiln
