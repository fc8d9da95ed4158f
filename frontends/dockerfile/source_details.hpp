// Errors as clients see them: places in a Dockerfile become Source details, from which clients print
// snippets.
#pragma once

#include <string>

#include "frontends/dockerfile/location.hpp"
#include "frontends/llb/graph.hpp"

namespace kiln::dockerfile {

/// Turns the places an error carries into details of type errdefs.Source+json. Source: errdefs/source.go.
error with_source_details(error e, const llb::source_map& file);

/// The snippet that clients print below a message: a few lines around the ranges, marked with ">>>".
std::string print_snippet(const pb::SourceInfo& info, const std::vector<pb::Range>& ranges);

}  // namespace kiln::dockerfile
