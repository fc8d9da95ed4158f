// What signed requests to object stores, and their answers, are written with. Pure but for the cryptography.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace kiln::exporters {

/// Percent-encodes a path, slashes kept.
std::string encoded_path(std::string_view path);
/// "a=1&b=" with both sides encoded, sorted.
std::string encoded_query(const std::map<std::string, std::string>& query);
/// "/…" of a URL that has one, as it is written, without the query.
std::string path_of_url(const std::string& url);
/// The raw 32 bytes.
std::string hmac_sha256(std::string_view key, std::string_view text);
/// The text between <name> and </name>: enough for the answers we read.
std::string xml_text(const std::string& xml, const std::string& name);

}  // namespace kiln::exporters
