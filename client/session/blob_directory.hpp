// Blobs in a directory with the OCI layout: blobs/<algorithm>/<hex>, unfinished ones under ingest/.
// The format containerd's local content store shares, so that other tools' layouts can be read and ours by
// them. Thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "base/digest.hpp"
#include "base/result.hpp"
#include "client/fd.hpp"

namespace kiln::client {

struct blob_facts {
  kiln::digest digest;
  std::int64_t size = 0;         // bytes
  std::int64_t modified_ns = 0;  // Unix epoch
};

struct ingest_facts {
  std::string ref;
  std::int64_t offset = 0;
  std::int64_t total = 0;
  std::string expected;
  std::int64_t started_ns = 0;
  std::int64_t updated_ns = 0;
};

class blob_directory {
 public:
  explicit blob_directory(std::string directory) : directory_(std::move(directory)) {}
  /// What was begun here and not committed goes.
  ~blob_directory();
  blob_directory(const blob_directory&) = delete;

  const std::string& path() const { return directory_; }
  /// not_found "content <digest>: not found".
  result<blob_facts> info(const kiln::digest& d) const;
  result<unique_fd> open(const kiln::digest& d) const;
  result<std::string> read_all(const kiln::digest& d, std::size_t limit) const;
  std::vector<blob_facts> list() const;
  status remove(const kiln::digest& d);

  /// One blob being written; kept for a later resume when dropped. Not thread-safe by itself.
  class ingest {
   public:
    ~ingest();
    const ingest_facts& facts() const { return facts_; }
    /// out_of_range unless `offset` is where the blob ends now; a smaller one cuts the blob there.
    status write(std::int64_t offset, std::string_view bytes);
    void expect(std::int64_t total, const std::string& digest);
    /// Verifies size and digest (data_loss otherwise), fsyncs and renames. already_exists when the blob was
    /// there.
    result<kiln::digest> commit();

   private:
    friend class blob_directory;
    blob_directory* owner_ = nullptr;
    unique_fd file_;
    std::string path_;
    ingest_facts facts_;
    sha256_hasher hasher_;
  };
  /// Opens or resumes; unavailable while another writer, be it of another process, holds the ref.
  result<std::unique_ptr<ingest>> begin(const std::string& ref, std::int64_t total,
                                        const std::string& expected);
  result<ingest_facts> status_of(const std::string& ref) const;
  std::vector<ingest_facts> ingests() const;
  kiln::status abort(const std::string& ref);
  /// Removes what killed writers left: unfinished blobs that nobody holds and nobody wrote to for an hour.
  void remove_stale_ingests();

 private:
  result<std::string> blob_path(const kiln::digest& d) const;
  std::string ingest_path(const std::string& ref) const;

  std::string directory_;
  mutable std::mutex mutex_;
  std::set<std::string> open_refs_;
  std::set<std::string> begun_;  // paths of what was begun and not committed
};

}  // namespace kiln::client
