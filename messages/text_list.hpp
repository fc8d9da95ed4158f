// Lists of texts in the attributes of an op: JSON as BuildKit has them. JSON cannot say bytes that are no
// UTF-8, so a list with such a text has its bytes beside it, under "<key>.bytes", each text ended by NUL.
// Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace kiln {

/// The attribute that holds the bytes of the list under `key`.
std::string bytes_key(std::string_view key);
/// What belongs under it; nothing when the JSON says it all.
std::optional<std::string> list_bytes(const std::vector<std::string>& items);
/// The list again; invalid_argument when the last text is not ended.
result<std::vector<std::string>> parse_list_bytes(std::string_view bytes);

}  // namespace kiln
