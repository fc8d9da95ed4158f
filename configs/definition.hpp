// Bounds of LLB definitions: how much a client, a frontend or a build op may ask for in one. What is larger
// is refused when it is loaded, with the bound in the error; everything below must be quick.
#pragma once

#include <cstddef>

namespace kiln::configs::definition {

inline constexpr std::size_t bytes_max = 64u << 20;     // of a definition with metadata and sources
inline constexpr std::size_t ops_max = 100'000;         // in one definition, so vertices too
inline constexpr std::size_t inputs_max = 10'000;       // of one op
inline constexpr std::size_t all_inputs_max = 500'000;  // of all ops together
inline constexpr std::size_t outputs_max = 10'000;      // results of one op
inline constexpr std::size_t actions_max = 50'000;      // of one file op
inline constexpr std::size_t mounts_max = 5'000;        // of one exec; the kernel gives a namespace 100,000

/// Bytes of a vertex's name, as progress shows it …
inline constexpr std::size_t name_bytes_max = 4'096;
/// … and of one made of the names of its inputs, which would double from level to level.
inline constexpr std::size_t joined_name_bytes_max = 512;
/// Bytes of an input's name that are remembered to explain why a step ran.
inline constexpr std::size_t input_name_bytes_max = 120;

/// Larger ops are not part of the error when they fail: no client could take it.
inline constexpr std::size_t told_op_bytes_max = 128u << 10;

/// Ops whose bytes are no more than this are keyed where they are; others on a job's thread.
inline constexpr std::size_t quick_op_bytes = 16u << 10;

}  // namespace kiln::configs::definition
