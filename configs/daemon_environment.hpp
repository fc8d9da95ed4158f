// Variables of the environment that BuildKit's daemon reads and Kiln has no use for: who sets one is told so.
#pragma once

#include <string_view>

namespace kiln::configs {

struct lacking_variable {
  const char* name;
  std::string_view why;
};

inline constexpr lacking_variable lacking_variables[] = {
    {"BUILDKIT_DEBUG_PANIC_ON_ERROR", "no error ends the daemon; --debug tells where each came from"},
    {"BUILDKIT_SCHEDULER_DEBUG", "there is no such scheduler; a step that runs again says why"},
    {"BUILDKIT_SCHEDULER_DEBUG_STEPS", "there is no such scheduler; a step that runs again says why"},
    {"BUILDKIT_DEBUG_FORCE_OVERLAY_DIFF",
     "layers are always made of overlayfs's own directories where overlayfs is the snapshotter"},
};

}  // namespace kiln::configs
