// Results that are one file: made from a download, with the name, owner and times the op asks for.
// Source: source/http/source.go (save), source/containerblob/pull.go; source/util/pathutil.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "base/unique_fd.hpp"
#include "messages/job.hpp"
#include "ops.pb.h"
#include "store/ref_store.hpp"

namespace kiln::workers {

struct file_look {
  std::string name;
  int perm = 0600;  // 0 in the op means this
  int uid = 0, gid = 0;
  std::int64_t mtime = 0;  // seconds since the Unix epoch
  bool operator==(const file_look&) const = default;
};

/// The `http.filename`, `http.perm`, `http.uid` and `http.gid` attributes; numbers as Go's base 0 reads them.
struct file_attributes {
  std::string filename;
  int perm = 0, uid = 0, gid = 0;
};
result<file_attributes> parse_file_attributes(const pb::SourceOp& source);

/// A new snapshot with one file being written.
class single_file {
 public:
  static result<single_file> begin(store::ref_store& store, const store::record_options& options,
                                   const job_context& job);
  /// Starts the content anew.
  status restart();
  status write(std::string_view bytes);
  std::int64_t size() const { return size_; }
  /// SHA-256 of what was written.
  kiln::digest sum();
  /// Names the file, gives it its look, and commits.
  result<store::ref> commit(const file_look& look);

 private:
  explicit single_file(store::ref_store& store) : store_(&store) {}

  store::ref_store* store_;
  store::mutable_ref snapshot_;
  store::mounted mount_;
  unique_fd directory_, file_;
  sha256_hasher hasher_;
  std::int64_t size_ = 0;
};

}  // namespace kiln::workers
