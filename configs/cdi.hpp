// Bounds of CDI spec files (workers/cdi). Plain constants.
#pragma once

#include <cstddef>

namespace kiln::configs {

inline constexpr std::size_t cdi_spec_bytes_max =
    8 * 1024 * 1024;  // of one file; a node of 8 GPUs has some 100 KiB

}  // namespace kiln::configs
