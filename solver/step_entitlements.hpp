// What a step may do beyond the sandbox where it runs, whoever granted it elsewhere. Pure.
#pragma once

#include <span>
#include <string>

#include "base/result.hpp"
#include "ops.pb.h"
#include "solver/devices.hpp"

namespace kiln::solver {

/// permission_denied, with the entitlement, unless `allowed_by_daemon`, of the node that is to run the step,
/// allows it. Devices that all may have need none.
status admit_step(const pb::Op& op, std::span<const std::string> allowed_by_daemon,
                  std::span<const device> registered);

}  // namespace kiln::solver
