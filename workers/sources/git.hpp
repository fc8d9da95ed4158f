// The git:// source: a commit checked out by git's own program, or put into a bundle, through one bare
// repository per remote, or per bundle that takes its place, which is kept between builds.
#pragma once

#include <memory>

#include "distribution/hosts.hpp"
#include "workers/op_handler.hpp"

namespace kiln::workers {

/// Both must outlive the source. Thread-safe; jobs on one remote take turns.
std::shared_ptr<source_handler> make_git_source(store::ref_store& refs, distribution::hosts& hosts);

}  // namespace kiln::workers
