// Which CDI devices a step means by what it asks for: one by name, the first or all of a kind, a class. Pure;
// knows nothing of spec files. Source: solver/llbsolver/cdidevices.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "ops.pb.h"

namespace kiln::solver {

/// The annotation that puts devices of any kind into a class, to be asked for by its name.
inline constexpr const char* device_class_annotation = "org.mobyproject.buildkit.device.class";
/// The annotation that lets every build have the device.
inline constexpr const char* device_auto_allow_annotation = "org.mobyproject.buildkit.device.autoallow";

struct device {
  std::string name;  // vendor/class=name
  std::map<std::string, std::string> annotations;
  bool auto_allowed = false;  // needs no entitlement
};

/// "vendor/class" of "vendor/class=name".
std::string_view kind_of(std::string_view device_name);

/// The full names of what `wanted` means among `all` (sorted by name), each once; optional ones that are not
/// there are left out. not_found: required device "X" is not registered.
result<std::vector<std::string>> find_devices(std::span<const device> all,
                                              std::span<const pb::CDIDevice> wanted);

}  // namespace kiln::solver
