// For each architecture a program that does nothing but end, as a whole ELF file: whether one starts tells
// whether the kernel runs that architecture, by itself or by an interpreter. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace kiln::workers {

/// The program's bytes; it ends with 0. That of amd64 ends with amd64_level_base plus the level (1 or 2) of
/// the processor it finds itself on. Empty for an architecture that is not in tiny_program_architectures().
std::string tiny_program(std::string_view architecture);

/// In the order in which workers list them.
const std::vector<std::string>& tiny_program_architectures();

inline constexpr int amd64_level_base = 64;

}  // namespace kiln::workers
