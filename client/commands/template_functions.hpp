// The functions of Go templates: those of text/template that make sense for output, and those that BuildKit's
// and Docker's clients add. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "client/commands/go_value.hpp"

namespace kiln::client {

bool is_template_function(std::string_view name);

/// What a function gives. invalid_argument when the arguments do not fit. Source: Go text/template/funcs.go.
result<go_value> call_template_function(const std::string& name, const std::vector<go_value>& args);

/// Whether a condition holds for it.
inline bool truth(const go_value& v) { return !v.is_zero(); }

}  // namespace kiln::client
