// Where log lines go and how they look.
#pragma once

#include <memory>

#include <spdlog/formatter.h>

#include "configs/daemon_config.hpp"

namespace kiln::node {

/// One line a message, whatever is in it (refs, names and errors come from outside): text with full
/// timestamps, or one JSON object.
std::unique_ptr<spdlog::formatter> log_formatter(const std::string& format);

/// Standard error, at the configured level.
void set_up_logging(const configs::daemon_config& config);

}  // namespace kiln::node
