// Applying tar archives to a directory, whoever made them.
//
// Everything is created beneath the root's descriptor: parents are resolved as if it were the root
// directory (openat2 RESOLVE_IN_ROOT), the last component is never followed. The root is its own parent, so
// `..` leads nowhere else; symlinks are text and may point anywhere, but nothing is ever written through one
// to the outside. Knows nothing of records. Thread-safe between different targets.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "base/digest.hpp"
#include "messages/job.hpp"
#include "store/files/stream.hpp"

namespace kiln::store {

struct unpack_options {
  /// What `.wh.` entries mean.
  enum class whiteouts {
    plain,    // ordinary files: archives that are no layers
    remove,   // remove what is there: the target is the merged state
    overlay,  // become overlayfs whiteouts and opaque directories: the target is an upper directory
  };
  whiteouts on_whiteout = whiteouts::plain;
  /// Whiteout xattrs as `user.overlay.*` rather than `trusted.overlay.*`.
  bool user_namespace = false;
  /// Everything gets this owner.
  std::optional<std::pair<uid_t, gid_t>> owner = {};
  /// The archive may be compressed, once: gzip, bzip2, xz, zstd.
  bool detect_compression = false;
  /// An exact tar of our own nodes: what it says of the root directory itself (`./`, `/`) holds for the
  /// target, and times are what they are. Otherwise the target stays as it was made, and times before 1970 or
  /// beyond what nanoseconds can count become 0, as containerd and moby have it.
  bool exact = false;
  /// An xattr that may not be set, or that the file system has none of, is no error.
  bool xattrs_best_effort = false;
  /// Stop with needs_parents at a directory that is only implied: the layers below may have it.
  bool stop_if_parents_needed = false;
  /// The layers below, topmost first: a directory that the archive only implies looks as the topmost has it,
  /// unless something else hides it there. It is made even where a lower layer has a link, which it then
  /// hides.
  std::vector<std::filesystem::path> parents = {};
};

struct unpack_outcome {
  std::int64_t entries = 0;
  std::int64_t bytes = 0;      // of file content, holes included
  bool needs_parents = false;  // stopped early; the target is incomplete
  bool applied_root = false;   // the root directory itself was told of, and that was taken over
};

/// Unpacks a tar stream into the existing directory `root`. Errors name the entry. Holes of sparse entries
/// and long runs of zeros become holes; how much it may become is bounded (configs/store.hpp,
/// configs/codec.hpp). Source: containerd's archive.Apply, moby's archive.Unpack.
result<unpack_outcome> unpack_tar(byte_source& in, const std::filesystem::path& root,
                                  const unpack_options& options, const job_context& job);

/// The name of every entry, as it is written in the archive.
status list_tar(byte_source& in, const std::function<void(const std::string& name)>& visit,
                const job_context& job);

/// Whether the file begins with a tar header, once decompressed where it is: what ADD unpacks.
bool is_archive(int fd);

/// A byte_source over an open file, from its start; takes a duplicate of the descriptor.
result<std::unique_ptr<byte_source>> open_source(int fd);

/// Passes bytes on and computes their digest.
class hashing_source final : public byte_source {
 public:
  explicit hashing_source(byte_source& in) : in_(in) {}
  result<std::size_t> read(std::span<char> buffer) override;
  /// Reads to the end, then the digest of everything.
  result<kiln::digest> finish();

 private:
  byte_source& in_;
  sha256_hasher hash_;
};

}  // namespace kiln::store
