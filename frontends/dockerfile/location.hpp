// Places in a Dockerfile, and errors that know theirs. Inside this folder an error carries its places as
// typed details of a private kind; the frontend turns them into Source details at its edge. Pure.
#pragma once

#include <string>
#include <vector>

#include "base/result.hpp"
#include "ops.pb.h"

namespace kiln::dockerfile {

/// Lines count from 1.
struct line_range {
  int start = 0;
  int end = 0;
  bool operator==(const line_range&) const = default;
};
using line_ranges = std::vector<line_range>;

/// One range for each line from start to end. Source: parser/errors.go toRanges.
line_ranges ranges_of_lines(int start, int end);

/// Adds a place; an error may have several (every step of a circular dependency).
error with_location(error e, const line_ranges& where);
/// Replaces all places by one.
error set_location(error e, const line_ranges& where);
/// All places, and the error without them.
struct located {
  error plain;
  std::vector<line_ranges> places;
};
located split_location(error e);

/// Overlapping lines joined. Source: dockerfile2llb/convert.go mergeLocations.
line_ranges merge_ranges(const std::vector<line_ranges>& places);

std::vector<pb::Range> to_proto(const line_ranges& ranges);

}  // namespace kiln::dockerfile
