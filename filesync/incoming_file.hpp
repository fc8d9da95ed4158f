// A regular file of the destination whose content is coming, in pieces between those of others.
//
// Nothing is written through a file that exists: what replaces one has a temporary name until it is whole.
// Where others' files are (merge) one that is not whole is not seen, be it that we are killed: it has no
// name. Elsewhere the whole tree counts for nothing until it is complete. For one thread.
#pragma once

#include <string>
#include <string_view>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "filesync/file_stat.hpp"
#include "filesync/parent_cache.hpp"
#include "store/files/file_data.hpp"

namespace kiln::filesync {

class incoming_file {
 public:
  /// `replaces`: something is there already.
  incoming_file(file_stat stat, bool replaces) : stat_(std::move(stat)), replaces_(replaces) {}

  bool is_open() const noexcept { return static_cast<bool>(fd_); }
  /// Creates it, or opens it again where it was closed.
  status open(parent_cache& parents, bool merge);
  status write(std::string_view bytes);
  /// Closes it until more comes.
  status close(parent_cache& parents);
  /// It is whole: takes its metadata and its name. Call while it is open.
  status finish(parent_cache& parents);
  /// Removes what has a temporary name and was not finished.
  void drop(parent_cache& parents) noexcept;

 private:
  status create(parent_cache& parents, bool merge);
  status give_name(parent_cache& parents);

  file_stat stat_;
  bool replaces_;
  bool started_ = false;
  std::string name_;  // what it is written as, final or temporary; empty: as yet it has none
  unique_fd fd_;
  store::sparse_writer writer_;
};

}  // namespace kiln::filesync
