// The git:// source: a commit checked out by git's own program, through one bare repository per remote that
// is kept between builds. Bundles are not supported yet (parse_git_source says so).
#pragma once

#include <memory>

#include "workers/op_handler.hpp"

namespace kiln::workers {

/// `refs` must outlive the source. Thread-safe; jobs on one remote take turns.
std::shared_ptr<source_handler> make_git_source(store::ref_store& refs);

}  // namespace kiln::workers
