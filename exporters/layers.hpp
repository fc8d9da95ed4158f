// The layers of a ref as compressed blobs: existing ones reused, missing ones made in one pass (tar, digest,
// compression, digest, store), several at a time. Source: exporter/containerimage/writer.go (exportLayers);
// cache/blobs.go, cache/converter.go.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "exporters/attributes.hpp"
#include "messages/job.hpp"
#include "distribution/hosts.hpp"
#include "store/ref_store.hpp"

namespace kiln::exporters {

/// One layer as it goes into a manifest.
struct exported_layer {
  store::layer_blob blob;                          // media type as stored, not yet converted
  std::shared_ptr<store::blob_provider> provider;  // when the blob may not be in the store
  std::string description;
  std::int64_t created_at_ns = 0;
};

class layer_exporter {
 public:
  /// `hosts` (may be null) keeps two exports from making the same blob at once.
  layer_exporter(store::ref_store& store, distribution::hosts* hosts, compression_options compression)
      : store_(store), hosts_(hosts), compression_(compression) {}

  /// The layers of every ref, in order. Lazy layers stay lazy unless they must be converted.
  result<std::vector<std::vector<exported_layer>>> run(std::span<const store::ref> refs,
                                                       const job_context& job);
  /// Clamps the times in the layers after the first `keep` whose diff ids are the base image's.
  status rewrite_times(std::vector<exported_layer>& layers, const std::vector<digest>& base,
                       std::int64_t epoch, const job_context& job);
  /// Brings a blob into the store if it is not there.
  status ensure(const exported_layer& layer, const job_context& job);
  store::blob_store& blobs() { return store_.blobs(); }

 private:
  result<exported_layer> make(const store::layer_info& info, const job_context& job);
  result<store::layer_blob> compress_new(const store::layer_info& info, const job_context& job);
  result<store::layer_blob> convert(const store::layer_blob& from, const job_context& job);

  store::ref_store& store_;
  distribution::hosts* hosts_;
  compression_options compression_;
};

/// The OCI media type of layers with this compression.
std::string_view layer_media_type(store::compression kind);

/// Runs `work(i)` for 0 … n-1 on up to `threads` threads; the first error, after all have stopped.
status in_parallel(std::size_t n, unsigned threads, const std::function<status(std::size_t)>& work);

}  // namespace kiln::exporters
