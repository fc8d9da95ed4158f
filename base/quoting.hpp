// Text in quotes, as Go prints it for people (%q, %v) and as its encoding/json writes it. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace kiln {

/// Go's %q of a string.
std::string quote(std::string_view text);
/// Go's %q of a list: `["a" "b"]`.
std::string quote(const std::vector<std::string>& items);
/// Go's %v of a list: `[a b]`.
std::string bracketed(const std::vector<std::string>& items);

/// A JSON string with its quotes and Go's escapes: U+2028 and U+2029, with `html` also <, > and &; a byte
/// that is no UTF-8 as \ufffd.
std::string go_json_string(std::string_view text, bool html = true);
/// The same for text that is only hashed: bytes that are no UTF-8 stay what they are, so that different names
/// never become equal. No valid JSON then.
std::string exact_json_string(std::string_view text);

}  // namespace kiln
