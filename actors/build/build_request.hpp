// A Solve request made sense of: old field names translated, options checked. Pure.
// Source: control/control.go (Solve, translateLegacySolveRequest, findDuplicateCacheOptions).
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "messages/actor_interfaces.hpp"

namespace kiln::actors {

/// Translates the legacy exporter and cache fields, hands SOURCE_DATE_EPOCH to the exporters, drops a
/// second inline cache export. Errors: equal cache exports, unknown cache exporters, an unknown
/// compatibility version, what this daemon does not offer.
status prepare(ctl::SolveRequest& request);

/// The version that results are to be like (configs/compatibility.hpp).
int compatibility_of(const ctl::SolveRequest& request);

/// `gateway.v0` with source=dockerfile.v0 and no context of that name is the built-in frontend.
void shorten_frontend(std::string& frontend, std::map<std::string, std::string>& options);

/// Platforms of a result with their ids, in the order of its `refs.platforms` metadata.
std::vector<std::pair<std::string, platform>> result_platforms(
    const std::map<std::string, std::string>& metadata);

}  // namespace kiln::actors
