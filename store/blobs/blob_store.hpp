// Content-addressed blobs on disk: blobs/<algorithm>/<hex>, immutable, verified while written.
// What is being written is in blobs/ingest; a committed blob is durable (file and directory fsynced).
// Thread-safe.
//
// Prune takes what nothing names. So whoever makes a blob, or finds one and relies on it, holds it from
// before it looks until the record that names it holds it in turn (as those in memory do), or it is needed no
// more.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "store/files/stream.hpp"

namespace kiln::store {

/// Keeps a blob from being pruned for as long as a copy lives. Empty where nothing is pruned.
using blob_hold = std::shared_ptr<const void>;

/// The digest of a blob that was stored, and stays while this lives.
struct held_digest : kiln::digest {
  held_digest(kiln::digest d, blob_hold h) : kiln::digest(std::move(d)), hold(std::move(h)) {}
  blob_hold hold;
};

struct blob_info {
  kiln::digest digest;
  std::int64_t size = 0;                      // bytes
  std::int64_t created_at_ns = 0;             // Unix epoch
  std::map<std::string, std::string> labels;  // containerd-style
  bool in_use = false;                        // somebody holds it
};

/// A blob that is not here whole: it is being brought, or was not brought to its end.
struct partial_blob {
  kiln::digest digest;
  std::int64_t size = 0;           // bytes in allocated blocks
  std::int64_t written_at_ns = 0;  // last, Unix epoch
  bool in_use = false;             // somebody is bringing it
};

/// One blob being written. A disk that refuses its bytes ends it, and nothing of it stays.
class blob_writer : public byte_sink {
 public:
  /// Bytes that were there when the writer was opened, plus what was written since.
  virtual std::int64_t offset() const = 0;
  /// Drops what was written so far and starts at zero.
  virtual status truncate() = 0;
  /// Ends it and leaves nothing.
  virtual void discard() noexcept = 0;
  /// Ends it: verifies size and digest when expected, fsyncs, renames. The digest of what was
  /// written; data_loss when it is not what was expected (then nothing remains).
  virtual result<held_digest> commit() = 0;
  status finish() override;
};

class blob_store {
 public:
  virtual ~blob_store() = default;
  static result<std::unique_ptr<blob_store>> open(std::filesystem::path directory);

  /// Keeps the blob, if it is here or comes, from remove_unneeded(). Hold first, then look.
  virtual blob_hold hold(const kiln::digest&) { return {}; }
  virtual bool has(const kiln::digest& d) const = 0;
  /// not_found when absent.
  virtual result<blob_info> info(const kiln::digest& d) const = 0;
  /// The file of the blob, for hard links and sendfile. The blob must exist.
  virtual std::filesystem::path path_of(const kiln::digest& d) const = 0;
  virtual result<std::unique_ptr<byte_source>> read(const kiln::digest& d, std::int64_t offset = 0) const = 0;
  /// The whole blob in memory; resource_exhausted above `limit` bytes.
  virtual result<std::string> read_all(const kiln::digest& d, std::int64_t limit) const = 0;
  virtual std::vector<blob_info> list() const = 0;

  // Writing. Stores that are only read leave these as they are: unimplemented.
  /// Begins to bring a blob whose digest is known, or goes on where an earlier attempt stopped. One at a
  /// time: whoever comes while another brings the same blob waits for that, and takes over when it fails.
  /// Null when the blob is here, be it by then; cancelled when `stop` asks. What is written and neither
  /// committed nor discarded stays for the next attempt, for limits::partial_blob_age.
  virtual result<std::unique_ptr<blob_writer>> bring(const kiln::digest& d, std::optional<std::int64_t> size,
                                                     std::stop_token stop);
  /// A new blob, whose digest its bytes will tell. Uncommitted, nothing of it stays.
  virtual result<std::unique_ptr<blob_writer>> create();
  /// Stores bytes at hand; a no-op when they are there already.
  virtual result<held_digest> put(std::string_view bytes);
  using label_map = std::map<std::string, std::string>;
  /// Changes the labels of a blob; nobody else does between what `change` sees and what it leaves. Labels
  /// have many owners: each changes its own only.
  virtual status change_labels(const kiln::digest& d, const std::function<void(label_map&)>& change);
  status set_label(const kiln::digest& d, const std::string& label, const std::string& value);
  /// Removes that label if its value is this one; fine when there is no such blob.
  status drop_label(const kiln::digest& d, const std::string& label, const std::string& value);
  /// Whoever holds it: for bytes that are bad.
  virtual status remove(const kiln::digest& d);
  /// Removes a blob that nobody holds and that `unneeded` says of it, asked while nobody can come to hold it.
  /// Whether it is not here any more.
  using judge = std::function<result<bool>(const blob_info&)>;
  virtual result<bool> remove_unneeded(const kiln::digest& d, const judge& unneeded);
  virtual std::vector<partial_blob> partials() const { return {}; }
  /// Removes what there is of a blob that is not whole; failed_precondition while somebody brings it.
  virtual status remove_partial(const kiln::digest& d);
  /// Removes partial blobs that nobody went on with for limits::partial_blob_age.
  virtual void remove_stale_partials() {}
};

}  // namespace kiln::store
