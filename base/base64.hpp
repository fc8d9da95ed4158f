// Standard base64 with padding, by OpenSSL. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace kiln {

std::string base64_encode(std::string_view bytes);
/// Nothing when the text is not base64 in full quartets: no white space, no other alphabet.
std::optional<std::string> base64_decode(std::string_view text);

}  // namespace kiln
