// Reading the attributes of cache imports and exports, with upstream's error texts. Pure but for the
// environment.
// Source: cache/remotecache/{registry,local}; util/compression/attrs.go; control/control.go.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "base/result.hpp"
#include "exporters/attributes.hpp"
#include "messages/image_reference.hpp"

namespace kiln::exporters {

/// The value, or empty.
std::string cache_text(const attributes& attrs, const char* name);
/// The attribute, or the environment's variable; either may be empty.
std::optional<std::string> cache_setting(const attributes& attrs, const char* name, const char* variable);
/// The environment's variable if it is set and not empty.
std::string environment(const char* variable, const std::string& otherwise = "");
/// invalid_argument unless it is a positive integer.
result<int> cache_positive(const attributes& attrs, const char* name, int when_absent);
/// Go's strconv.ParseBool; invalid_argument "failed to parse <name>: …".
result<bool> cache_bool(const attributes& attrs, const char* name, bool when_absent);
/// "ref", normalized, with a tag; invalid_argument "missing ref".
result<image_reference> cache_ref(const attributes& attrs);
/// "compression", "compression-level", "force-compression".
result<compression_options> cache_compression(const attributes& attrs);

}  // namespace kiln::exporters
