// The docker-image:// source: images of registries, and of this daemon's own image store.
// Thread-safe, blocking. Source: source/containerimage/{source,pull}.go; util/resolver/pool.go.
#pragma once

#include <memory>

#include "distribution/hosts.hpp"
#include "workers/op_handler.hpp"

namespace kiln::workers {

/// Both outlive the handler.
std::unique_ptr<source_handler> make_image_source(store::ref_store& store, distribution::hosts& hosts);

}  // namespace kiln::workers
