// Colours of the tty display: defaults, NO_COLOR and BUILDKIT_COLORS. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace kiln::client {

/// Escape sequences; empty means no colour.
struct color_scheme {
  std::string run;
  std::string cancel;
  std::string error;
  std::string warning;
  std::string faint;
  std::string reset;

  bool operator==(const color_scheme&) const = default;
};

color_scheme default_colors();
/// Applies "run=cyan:error=255,0,0" to the defaults; what cannot be understood is skipped and named in
/// `complaints`. Source: buildkit util/progress/progressui colors.go.
color_scheme parse_colors(std::string_view spec, std::vector<std::string>& complaints);

}  // namespace kiln::client
