// One line of comma-separated values, as every KEY=VALUE,KEY=VALUE flag and option is written. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace kiln {

/// Splits a CSV record: fields may be quoted, quotes inside are doubled. invalid_argument for stray quotes
/// and for an empty line ("EOF"). Source: tonistiigi/go-csvvalue.
result<std::vector<std::string>> split_csv(std::string_view line, char comma = ',');

}  // namespace kiln
