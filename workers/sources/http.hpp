// The http:// and https:// sources: one file each, kept as long as its server calls it the same.
// Thread-safe, blocking. Source: source/http/source.go, transport.go.
#pragma once

#include <memory>
#include <string>

#include "distribution/hosts.hpp"
#include "workers/op_handler.hpp"

namespace kiln::workers {

/// Both outlive the handler.
std::unique_ptr<source_handler> make_http_source(store::ref_store& store, distribution::hosts& hosts);

}  // namespace kiln::workers
