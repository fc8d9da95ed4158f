// Outside text on its way to a log or a terminal: what would end a line, move the cursor, turn the reading
// direction or talk to the terminal is written as an escape (\n, \x1b, \u202e), and what is no UTF-8 as
// U+FFFD. Pure.
#pragma once

#include <string>
#include <string_view>

namespace kiln {

/// The text on one line.
std::string one_line(std::string_view text);
/// The text with its line breaks and tabs.
std::string printable(std::string_view text);
/// One line of a program's output: colours and tabs stay, every other control goes.
std::string output_line(std::string_view text);

}  // namespace kiln
