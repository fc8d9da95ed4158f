// Bounds of the frontends: units and ranges beside each value. Plain constants, no code.
#pragma once

#include <cstddef>
#include <cstdint>

namespace kiln::configs {

/// Base images and contexts of one Dockerfile asked for at a time. 1–64.
inline constexpr std::size_t frontend_parallel_bases = 16;
/// Platforms of one build converted at a time. 1–64.
inline constexpr std::size_t frontend_parallel_platforms = 8;
/// Stages of one Dockerfile; also bounds recursion over them. 1–10000.
inline constexpr std::size_t dockerfile_max_stages = 4096;
/// Instructions of one Dockerfile.
inline constexpr std::size_t dockerfile_max_instructions = 100000;
/// Bytes that one expanded word may have: `ENV A=$A$A` doubles.
inline constexpr std::size_t dockerfile_max_word_size = 4 << 20;
/// Bytes of environment handed to all commands of one build together.
inline constexpr std::size_t dockerfile_max_environment = 64 << 20;
/// Nested ${a:-${b:-…}}.
inline constexpr int dockerfile_max_expansion_depth = 100;
/// Bytes of a pattern in ${a#pattern} and its kin, and of the text it is applied to.
inline constexpr std::size_t dockerfile_max_pattern_size = 4096;
inline constexpr std::size_t dockerfile_max_pattern_text = 1 << 20;
/// Instructions inside ONBUILD inside ONBUILD …, before the nesting itself is refused.
inline constexpr int dockerfile_max_onbuild_depth = 16;
/// ONBUILD instructions that one image leaves to whoever builds on it. 1–10000.
inline constexpr std::size_t dockerfile_max_triggers = 1000;
/// Words longer than this get no suggestion, bytes.
inline constexpr std::size_t suggestion_max_word = 4096;
/// What is read of a downloaded context to tell whether it is an archive, bytes. ≥ 512.
inline constexpr std::int64_t context_probe_size = 1024;
/// Highest CPU or memory node in a cpuset.
inline constexpr std::int64_t cpuset_max = 8192;

/// The image that scans for an SBOM when none is named. Source: buildx, and docker/buildkit-syft-scanner.
inline constexpr const char* sbom_generator = "docker/buildkit-syft-scanner:stable-1";

}  // namespace kiln::configs
