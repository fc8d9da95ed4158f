// What the client has to say besides a command's output and its error: one line on standard error, in the
// form that --log-format asks for. From any thread.
#pragma once

#include <string>
#include <string_view>

namespace kiln::client {

/// The line, without its end: "WARNING: …", or as JSON with time and level.
std::string warning_line(std::string_view text, bool as_json);

/// Said once, at the start: whether lines are JSON.
void warn_as_json(bool as_json);

void warn(std::string_view text);

}  // namespace kiln::client
