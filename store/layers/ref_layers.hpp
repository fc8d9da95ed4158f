// The layers of a ref for whoever makes images of them: what they are called, their compressed forms, their
// archives. Thread-safe.
#pragma once

#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "messages/job.hpp"
#include "store/files/stream.hpp"
#include "store/layers/layer_blob.hpp"
#include "store/records/ref.hpp"

namespace kiln::store {

class materializer;
class record_table;
class ref_files;

class ref_layers {
 public:
  ref_layers(record_table& records, materializer& maker, ref_files& files)
      : records_(records), maker_(maker), files_(files) {}

  /// Flattened layers, bottom first (merges and diffs resolved). Moves no bytes for lazy layers.
  result<std::vector<layer_info>> of(const ref& r, const job_context& job);
  /// Writes the layer's difference to its parent as an uncompressed OCI layer tar (whiteouts as
  /// `.wh.` files), entries sorted, reproducible.
  status write_tar(std::string_view layer_id, byte_sink& out, const job_context& job);
  /// Remembers a compressed form of a layer whose bytes are in the blob store, held by the caller until then.
  status add_blob(std::string_view layer_id, const layer_blob& blob);
  /// Brings a blob of one of the ref's layers into the blob store from wherever that layer knows.
  status fetch(const ref& r, const digest& blob, const job_context& job);

  // For the store.
  /// What the record changed, whatever its directory holds besides: the tar that images have.
  status write_image_tar(const std::shared_ptr<record>& r, byte_sink& out, const job_context& job);

 private:
  record_table& records_;
  materializer& maker_;
  ref_files& files_;
};

}  // namespace kiln::store
