// Digests of the files and directories of one tree, computed on demand, several files at a time, and kept.
//
// Paths are absolute within the tree and clean; "" is the tree's root. Symlinks are resolved inside the
// tree, step by step, and never by the kernel. What is known can be written out and taken in again,
// for the same tree (which never changes), or for a later copy of a tree, where a file counts as
// unchanged if it is the same inode, born at the same time, with the same metadata: copies made of
// hard links by a writer who replaces files by rename have that property.
// Source: BuildKit cache/contenthash/checksum.go. Not thread-safe.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/digest.hpp"
#include "base/unique_fd.hpp"
#include "messages/content_selector.hpp"
#include "messages/job.hpp"

namespace kiln::store {

class tree_digests {
 public:
  tree_digests(unique_fd root, job_context job) : root_(std::move(root)), job_(std::move(job)) {}

  /// The digest of what one selector picks. not_found `"/path": not found`.
  result<digest> select(const content_selector& selector);

  /// What is known, and whether anything was computed since load().
  std::string save() const;
  bool has_news() const noexcept { return has_news_; }
  /// Takes in what save() wrote for this very tree.
  void load(std::string_view saved);
  /// Takes in what save() wrote for an earlier copy.
  void load_earlier(std::string_view saved);

 private:
  /// Tells an unchanged file of an earlier copy.
  struct stamp {
    std::uint64_t inode = 0;
    std::int64_t born_ns = 0;  // 0 = the file system does not say: never trusted
    std::int64_t modified_ns = 0;
    std::int64_t size = 0;
    std::uint32_t mode = 0, uid = 0, gid = 0;
    bool operator==(const stamp&) const = default;
  };
  struct known_digest {
    std::string text;  // "sha256:…"
    stamp of;
    bool is_content = false;  // of a directory's content: follows from others
  };
  struct found {
    std::string path;
    bool exists = false;
    struct stat info {};
  };
  struct wanted_file {
    std::string key, path;
    struct stat info {};
    std::string digest;
  };
  struct child {
    std::string name;
    struct stat info {};
  };
  struct item;  // of a pattern walk
  struct pattern_walk;

  result<bool> look(const std::string& path, struct stat& info) const;
  result<found> resolve(const std::string& path, bool follow_trailing) const;
  result<const std::vector<child>*> children_of(const std::string& path);
  result<stamp> stamp_of(const std::string& path, const struct stat& info) const;

  /// Queues the digest of one object (of a directory: its header) unless it is known.
  status want(const std::string& path, const struct stat& info);
  status want_tree(const std::string& path, const struct stat& info, int depth);
  /// Computes what is queued.
  status compute();
  const std::string& digest_of(const std::string& key) const { return known_.at(key).text; }
  /// After want_tree() and compute().
  result<std::string> tree_digest(const std::string& path, const struct stat& info);

  result<std::string> plain(const std::string& path, bool follow_trailing);
  result<digest> picked(const content_selector& selector, const std::string& path);

  unique_fd root_;
  job_context job_;
  std::unordered_map<std::string, known_digest> known_;  // path; headers of directories: path + "/"
  std::unordered_map<std::string, known_digest> earlier_;
  std::unordered_map<std::string, std::vector<child>> children_;
  std::map<std::pair<dev_t, ino_t>, std::string> linked_;  // files with several names, by inode → key
  std::vector<wanted_file> wanted_;
  bool has_news_ = false;
};

}  // namespace kiln::store
