// The loopback device of the calling thread's network namespace, which is down in a new one.
#pragma once

#include "base/result.hpp"

namespace kiln::workers {

status bring_loopback_up();

}  // namespace kiln::workers
