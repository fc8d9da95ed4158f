// kiln::error to caf::error and back, and what CAF's own errors mean to a client.
#pragma once

#include <caf/error.hpp>

#include "base/result.hpp"

namespace kiln {

/// Wraps an error so that it crosses mailboxes and nodes whole.
caf::error to_caf(error e);
/// Unwraps; CAF's own errors become: request_timeout → deadline_exceeded, receiver down, link lost
/// or handle null → unavailable, user_shutdown → cancelled, anything else → internal.
error from_caf(const caf::error& e);
/// What to_caf() wrapped, without a copy; null for CAF's own errors.
const error* wrapped_error(const caf::error& e);

}  // namespace kiln
