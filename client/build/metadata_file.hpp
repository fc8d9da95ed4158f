// What --metadata-file holds: the exporter's response as JSON. Pure.
#pragma once

#include <map>
#include <string>

namespace kiln::client {

/// Values that are base64 of a non-empty JSON object are put in as that object.
/// Source: buildctl build.go writeMetadataFile.
std::string render_metadata(const std::map<std::string, std::string>& response);

}  // namespace kiln::client
