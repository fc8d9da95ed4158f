// Bounds on hostile definitions.
#pragma once

#include <cstddef>

namespace kiln::solver::limits {

constexpr int ops_max = 100'000;             // ops in one definition
constexpr int inputs_max = 10'000;           // inputs of one op
constexpr int outputs_max = 10'000;          // results of one op
constexpr std::size_t name_bytes_max = 4096;  // of a vertex, as shown in progress
constexpr std::size_t definition_bytes_max = 64u << 20;

}  // namespace kiln::solver::limits
