// What a downloaded file is called, whatever its server says. Pure.
#pragma once

#include <string>
#include <string_view>

namespace kiln::workers {

/// The name a download gets: `wanted`, what Content-Disposition says, the URL's last part, or "download".
std::string download_name(const std::string& url, const std::string& wanted, const std::string& disposition);
/// The file name of a Content-Disposition header; empty when it has none. Source: RFC 6266, RFC 8187.
std::string disposition_file_name(std::string_view header);
/// A single path component whatever a server says: "download" when nothing usable is left.
std::string safe_file_name(std::string_view text);

}  // namespace kiln::workers
