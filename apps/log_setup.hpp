// Where log lines go and how they look.
#pragma once

#include "configs/daemon_config.hpp"

namespace kiln::apps {

/// Standard error, at the configured level; text with full timestamps, or one JSON object a line.
void set_up_logging(const configs::daemon_config& config);

}  // namespace kiln::apps
