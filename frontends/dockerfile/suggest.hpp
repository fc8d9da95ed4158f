// "Did you mean …?": the nearest known word to a misspelled one. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace kiln::dockerfile {

/// The option within an edit distance of 2, or "" if there is none or the word itself is an option.
/// Source: util/suggest/error.go.
std::string suggest(std::string_view word, const std::vector<std::string>& options, bool case_sensitive);

/// Adds " (did you mean X?)" to the message when there is a suggestion.
error with_suggestion(error e, std::string_view word, const std::vector<std::string>& options,
                      bool case_sensitive);

}  // namespace kiln::dockerfile
