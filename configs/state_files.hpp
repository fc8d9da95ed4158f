// Names in the state directory that others than the store look for. Plain constants.
#pragma once

namespace kiln::configs {

inline constexpr const char* database_file = "metadata.mdb";
/// Held as long as a daemon runs there: the same as BuildKit's, so that the two do not meet either.
inline constexpr const char* lock_file = "buildkitd.lock";

}  // namespace kiln::configs
