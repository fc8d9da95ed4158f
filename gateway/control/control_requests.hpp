// The parts of the Control service that are pure functions of its messages.
// Knows nothing of gRPC or actors.
#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"
#include "control.pb.h"
#include "messages/prune_rule.hpp"

namespace kiln::gateway {

/// Drops what a client that does not read can do without: log text, and progress of what has not ended.
void drop_passing(moby::buildkit::v1::StatusResponse& delta);

/// Splits what would be too large for one message, keeping the order; makes every text valid UTF-8.
/// `bytes_max` bounds the payload of each part; one log longer than that is cut in pieces.
std::vector<moby::buildkit::v1::StatusResponse> split_status(moby::buildkit::v1::StatusResponse&& whole,
                                                             std::size_t bytes_max);

/// What a client wants pruned.
prune_rule rule_of(const moby::buildkit::v1::PruneRequest& request);

/// Now, as the header `buildkit-current-timestamp` has it (RFC 3339 with nanoseconds, UTC).
std::string rfc3339_nano_now();

}  // namespace kiln::gateway
