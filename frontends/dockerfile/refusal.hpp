// How the conversion says no: something is wrong with a Dockerfile, or with how its build was asked for.
#pragma once

#include <string>
#include <utility>

#include "base/result.hpp"

namespace kiln::dockerfile {

[[nodiscard]] inline error invalid(std::string message) {
  return make_error(errc::invalid_argument, std::move(message));
}

}  // namespace kiln::dockerfile
