// Emulators for steps whose platform the kernel does not run: a static program buildkit-qemu-<arch> beside
// the daemon or on PATH, which the step gets into its container and which its command is given to.
// Source: BuildKit solver/llbsolver/ops/exec_binfmt.go.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "messages/platform.hpp"
#include "workers/executor/container.hpp"

namespace kiln::workers {

/// Where a step sees its emulator.
inline constexpr const char* emulator_path = "/dev/.buildkit_qemu_emulator";

/// The file name of a platform's emulator.
std::string emulator_name(const platform& wanted);

/// The emulator a platform needs; none where it runs by itself, or where nobody has one: then the step is
/// tried, and the kernel says what it says. unimplemented for levels of amd64 that no emulator has.
result<std::optional<std::filesystem::path>> find_emulator(
    const platform& wanted, const std::vector<platform>& runs_here,
    const std::vector<std::filesystem::path>& directories);

/// Beside the daemon, then PATH.
std::vector<std::filesystem::path> emulator_directories();

/// A step runs under it. `copy_to`: names a file to make, for an emulator that only its owner may run.
status emulate(container_spec& step, const std::filesystem::path& emulator,
               const std::function<result<std::filesystem::path>()>& copy_to);

}  // namespace kiln::workers
