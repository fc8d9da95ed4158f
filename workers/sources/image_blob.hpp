// The docker-image+blob:// and oci-layout+blob:// sources: one blob of a repository as a file.
// Thread-safe, blocking. Source: source/containerblob/{source,pull}.go.
#pragma once

#include <memory>
#include <vector>

#include "distribution/hosts.hpp"
#include "workers/op_handler.hpp"

namespace kiln::workers {

/// Both outlive the handler.
std::unique_ptr<source_handler> make_image_blob_source(store::ref_store& store, distribution::hosts& hosts);

/// Every source of this folder that needs registries, servers or client content: docker-image,
/// docker-image+blob, oci-layout, oci-layout+blob, http, https and git.
std::vector<std::shared_ptr<source_handler>> make_remote_sources(store::ref_store& store,
                                                                 distribution::hosts& hosts);

}  // namespace kiln::workers
