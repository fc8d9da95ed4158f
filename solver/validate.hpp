// Is one op well formed? Pure. Source: solver/llbsolver/ops/opsutils/validate.go and the ops' own checks.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "ops.pb.h"

namespace kiln::solver {

/// invalid_argument with upstream's texts ("invalid exec op with no args", …).
status validate_op(const pb::Op& op);

/// invalid_argument that tells the number and the bound, when `owner` has more `things` than are allowed.
status check_count(std::string_view owner, std::size_t count, std::string_view things, std::size_t count_max);

/// How many results the op has: the outputs that inputs may name are 0 … count-1.
int output_count(const pb::Op& op);

}  // namespace kiln::solver
