// The oci-layout:// source: images in a content store that a client offers through its session.
// Thread-safe, blocking. Source: source/containerimage/ocilayout.go.
#pragma once

#include <memory>

#include "workers/op_handler.hpp"

namespace kiln::workers {

/// The store outlives the handler.
std::unique_ptr<source_handler> make_oci_layout_source(store::ref_store& store);

}  // namespace kiln::workers
