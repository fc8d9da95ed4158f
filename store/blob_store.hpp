// Content-addressed blobs on disk: blobs/<algorithm>/<hex>, immutable, verified while written.
// Ingestion is resumable by name; a committed blob is durable (file and directory fsynced). Thread-safe.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "messages/digest.hpp"
#include "messages/result.hpp"
#include "store/stream.hpp"

namespace kiln::store {

struct blob_info {
  kiln::digest digest;
  std::int64_t size = 0;                      // bytes
  std::int64_t created_at_ns = 0;             // Unix epoch
  std::map<std::string, std::string> labels;  // containerd-style
};

/// One ingestion under way. Destroying it keeps what was written for a later resume.
class blob_writer : public byte_sink {
 public:
  /// Bytes already durable under this name when the writer was opened, plus what was written since.
  virtual std::int64_t offset() const = 0;
  /// Discards what was written so far and starts at zero.
  virtual status truncate() = 0;
  /// Ends the ingestion: verifies size and digest when expected, fsyncs, renames. The digest of
  /// what was written; data_loss when it is not what was expected (then nothing remains).
  virtual result<kiln::digest> commit() = 0;
  status finish() override;
};

class blob_store {
 public:
  virtual ~blob_store() = default;
  static result<std::unique_ptr<blob_store>> open(std::filesystem::path directory);

  virtual bool has(const kiln::digest& d) const = 0;
  /// not_found when absent.
  virtual result<blob_info> info(const kiln::digest& d) const = 0;
  /// The file of the blob, for hard links and sendfile. The blob must exist.
  virtual std::filesystem::path path_of(const kiln::digest& d) const = 0;
  virtual result<std::unique_ptr<byte_source>> read(const kiln::digest& d, std::int64_t offset = 0) const = 0;
  /// The whole blob in memory; resource_exhausted above `limit` bytes.
  virtual result<std::string> read_all(const kiln::digest& d, std::int64_t limit) const = 0;
  /// Opens (or resumes) the ingestion named `ref`; failed_precondition while another holds it.
  virtual result<std::unique_ptr<blob_writer>> write(std::string_view ref,
                                                     std::optional<kiln::digest> expected,
                                                     std::optional<std::int64_t> size) = 0;
  /// Stores bytes at hand; a no-op when they are there already.
  virtual result<kiln::digest> put(std::string_view bytes) = 0;
  virtual status set_labels(const kiln::digest& d, const std::map<std::string, std::string>& labels) = 0;
  virtual status remove(const kiln::digest& d) = 0;
  virtual std::vector<blob_info> list() const = 0;
};

}  // namespace kiln::store
