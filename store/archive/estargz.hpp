// eStargz: gzip layers of which single files can be fetched. Each file's content begins a gzip member, and a
// table at the end, itself an entry of a tar, says where. Cut off before the table they are the layer's own
// archive, bit by bit. Not thread-safe. Source: containerd/stargz-snapshotter, docs/estargz.md; the writer
// without landmarks, as BuildKit uses it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/digest.hpp"
#include "store/files/stream.hpp"

namespace kiln::store {

/// Annotations of such a layer: the table's digest, and the size without compression.
inline constexpr const char* estargz_table_annotation = "containerd.io/snapshot/stargz/toc.digest";
inline constexpr const char* estargz_size_annotation = "io.containers.estargz.uncompressed-size";

struct estargz_summary {
  digest diff_id;               // of all that is in it without compression, the table included
  digest table;                 // of the table's JSON
  std::int64_t plain_size = 0;  // bytes without compression
};

class estargz_writer final : public byte_sink {
 public:
  /// Takes an uncompressed tar; level and threads as for gzip (make_compressor).
  estargz_writer(std::optional<int> level, byte_sink& out, unsigned threads = 0);
  ~estargz_writer() override;

  /// invalid_argument for an archive that has a table already, or an entry such a layer cannot have;
  /// data_loss for what is no archive.
  status write(std::string_view bytes) override;
  /// Writes the table; does not finish `out`. data_loss for a truncated archive.
  status finish() override;
  /// After finish().
  const estargz_summary& summary() const;

 private:
  class state;
  std::unique_ptr<state> state_;
};

/// Bytes at the end of such a blob that say where its table begins.
inline constexpr std::size_t estargz_footer_size = 51;
/// Where the table begins, that is, how much of the blob is the archive; nothing for another's end.
std::optional<std::int64_t> estargz_table_offset(std::string_view footer);

}  // namespace kiln::store
