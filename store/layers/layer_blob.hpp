// A layer as others know it: its compressed forms, and who brings them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "messages/descriptor.hpp"
#include "messages/job.hpp"
#include "store/blobs/blob_store.hpp"

namespace kiln::store {

/// A compressed form of one layer.
struct layer_blob {
  descriptor blob;       // media type, digest, size as they go into a manifest
  kiln::digest diff_id;  // digest of the uncompressed tar
  blob_hold hold = {};   // of one that was made, or found, until who has this needs it no more
};

/// Brings a layer's blob into the blob store when somebody needs its bytes.
class blob_provider {
 public:
  virtual ~blob_provider() = default;
  /// Blocking; resumes; verifies. Reports progress through the job.
  virtual status fetch(const descriptor& blob, blob_store& into, const job_context& job) = 0;
  /// Whether it brings blobs from another node. A layer may have one such besides a lasting source.
  virtual bool is_peer() const { return false; }
};

/// One layer of a flattened ref, bottom first.
struct layer_info {
  std::string id;                           // record id of the layer
  std::vector<layer_blob> blobs;            // known compressed forms, best first; may be empty
  std::shared_ptr<blob_provider> provider;  // where blobs not in the store come from; may be null
  std::string description;
  std::int64_t created_at_ns = 0;
};

}  // namespace kiln::store
