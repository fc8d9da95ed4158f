// The blobs that layers can be unpacked from, brought from wherever a layer knows. Private to the store.
#pragma once

#include <vector>

#include "base/result.hpp"
#include "messages/job.hpp"
#include "store/records/record.hpp"

namespace kiln::store {

/// The first of these forms of the layer that is in the blob store, or can be brought there. One whose size
/// is wrong is dropped.
result<layer_blob> fetch_any(blob_store& blobs, const record_ptr& layer, std::vector<layer_blob> forms,
                             const job_context& job);
/// Some form that the layer can be unpacked from; and, that the node which unpacks it can tell of it whatever
/// becomes of the one it came from, its archive where that is another form.
result<layer_blob> fetch_content(blob_store& blobs, const record_ptr& layer, const job_context& job);

/// Whether every layer of a state is on disk, or can be brought there.
bool is_available(const record_ptr& r, const blob_store& blobs);

}  // namespace kiln::store
