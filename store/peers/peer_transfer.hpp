// Refs that go to other nodes and come from them. Thread-safe.
//
// A layer is known everywhere by the record that first was it (`origin`): what comes back to the node that
// made it is the record it was, and what two nodes have from a third is one layer to both.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "messages/job.hpp"
#include "store/layers/layer_blob.hpp"
#include "store/records/ref.hpp"

namespace kiln::store {

class materializer;
class record_table;
class ref_files;
class ref_layers;
class ref_store;
enum class blob_form : int;

/// One layer of a ref as it goes from node to node. What was made here has its own forms only once it was
/// exported, and exporters on any node must see those and no others, so that images come out the same
/// everywhere; on the way such a layer has a form of its own, which also keeps what images leave out.
struct shipped_layer {
  std::string origin;                   // its record on the node that made it; empty: it came as a blob
  std::vector<layer_blob> blobs;        // its own forms, best first
  std::optional<layer_blob> transport;  // what to unpack instead; never exported
  std::optional<layer_blob>
      archive;           // what ref_layers::write_tar() gives, where `transport` is another change
  bool rebased = false;  // it was made on other layers than those below it
  std::string description;
  std::int64_t created_at_ns = 0;
};

class peer_transfer {
 public:
  peer_transfer(ref_store& store, record_table& records, materializer& maker, ref_files& files,
                ref_layers& layers)
      : store_(store), records_(records), maker_(maker), files_(files), layers_(layers) {}

  /// The layers of a ref for another node, bottom first. Those that were made here get a transport form,
  /// once: it is kept with the record and goes with it. Moves no bytes for lazy layers that have blobs of
  /// their own.
  result<std::vector<shipped_layer>> export_to_peer(const ref& r, const job_context& job);
  /// The other end of export_to_peer(): a lazy layer on top of `parent`, or the record that is the same
  /// layer.
  result<ref> import_from_peer(const ref& parent, const shipped_layer& layer,
                               std::shared_ptr<blob_provider> provider, const record_options& options);
  /// Layers of the ref whose bytes are not here may come from this peer from now on.
  void add_peer_source(const ref& r, const std::shared_ptr<blob_provider>& peer);

 private:
  using record_ptr = std::shared_ptr<record>;
  result<shipped_layer> export_layer(const record_ptr& layer, bool in_place, const record_ptr& whole,
                                     const job_context& job);
  result<layer_blob> transport_form(const record_ptr& r, blob_form form, const job_context& job);
  result<layer_blob> pack(const record_ptr& r, blob_form form, const job_context& job);
  status write_exact_tar(const record_ptr& r, byte_sink& out, const job_context& job);
  result<ref> import_transport(const ref& parent, const shipped_layer& shipped,
                               std::shared_ptr<blob_provider> provider, const record_options& options);
  record_ptr known_here(const ref& parent, const shipped_layer& shipped);
  void add_forms(const record_ptr& r, const shipped_layer& shipped);

  ref_store& store_;
  record_table& records_;
  materializer& maker_;
  ref_files& files_;
  ref_layers& layers_;
};

}  // namespace kiln::store
