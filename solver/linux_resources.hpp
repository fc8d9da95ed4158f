// Limits of equal steps that are run once for several builds: the laxest of what these ask for, so that no
// build is held back by another's. Pure. Source: BuildKit solver/llbsolver/linuxresources.
#pragma once

#include "ops.pb.h"

namespace kiln::solver {

/// What both may use. Zero or empty is "no limit" for memory, processor time and sets of processors, "not
/// said" for swap and shares.
pb::LinuxResources laxest(const pb::LinuxResources& a, const pb::LinuxResources& b);

}  // namespace kiln::solver
