// What is done with an answer once it is there.
#pragma once

#include <functional>

#include "base/result.hpp"

namespace kiln::actors {

template <class T>
using continuation = std::function<void(result<T>)>;

}  // namespace kiln::actors
