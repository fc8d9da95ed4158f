// Does a build's result have the platforms that were asked for? Pure.
// Source: exporter/verifier/platforms.go, exporter/containerimage/exptypes/parse.go.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "messages/platform.hpp"

namespace kiln::actors {

/// What to warn of. Errors are what exporters could not work with: a broken platforms index, an image config
/// with half a platform, several refs without platforms.
result<std::vector<std::string>> verify_platforms(const std::map<std::string, std::string>& frontend_options,
                                                  const std::map<std::string, std::string>& metadata,
                                                  bool multi, bool empty);

}  // namespace kiln::actors
