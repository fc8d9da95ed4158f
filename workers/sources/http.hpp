// The http:// and https:// sources: one file each, kept as long as its server calls it the same.
// Thread-safe, blocking. Source: source/http/source.go, transport.go.
#pragma once

#include <memory>
#include <string>

#include "registry/hosts.hpp"
#include "workers/op_handler.hpp"

namespace kiln::workers {

/// Both outlive the handler.
std::unique_ptr<source_handler> make_http_source(store::ref_store& store, registry::hosts& hosts);

/// The name a download gets: `wanted`, what Content-Disposition says, the URL's last part, or "download".
std::string download_name(const std::string& url, const std::string& wanted, const std::string& disposition);
/// The file name of a Content-Disposition header; empty when it has none. Source: RFC 6266, RFC 8187.
std::string disposition_file_name(std::string_view header);

}  // namespace kiln::workers
