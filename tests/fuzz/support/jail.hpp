// A directory in which a target may do what it likes, and things beside it that it must not touch.
//
// It is a tmpfs in a mount namespace of the process, so nothing is left of it. Without the rights for that it
// is an ordinary temporary directory, removed at the end.
#pragma once

#include <sys/stat.h>

#include <string>

namespace kiln::fuzz {

class jail {
 public:
  jail();
  ~jail();

  /// The directory to work in: a few files, and links that lead out of it.
  const std::string& root() const { return root_; }
  /// Makes the root anew.
  void reset() { root_ = fresh("root"); }
  /// Makes a directory like the root anew, beside it, and says where.
  std::string fresh(const std::string& name) const;
  /// A broken promise when anything outside these directories is other than it was.
  void check() const;

 private:
  bool mounted_ = false;
  std::string base_, root_, outside_, canary_;
  struct stat outside_then_ {
  }, canary_then_{};
};

/// The jail of this process, made anew.
jail& fresh_jail();

}  // namespace kiln::fuzz
