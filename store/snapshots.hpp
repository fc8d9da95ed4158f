// Snapshot directories snapshots/<N>/{fs,work…} and the mounts made of them.
//
// With overlayfs and fuse-overlayfs, fs holds one layer: what it changes over those below. With the
// native snapshotter, fs holds the whole state. Overlays are mounted with `volatile` where the kernel
// has it: fsync inside a build step is not worth its price, because a snapshot that a power cut may
// have torn is dropped at start-up (see `table::unsynced`).
// Knows nothing of records. Thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "base/result.hpp"
#include "store/files/mount.hpp"
#include "store/snapshotter_kind.hpp"

namespace kiln::store {

class snapshots {
 public:
  /// Opens or creates the directory and decides which kind works on it; unavailable when the one asked
  /// for does not. `known`: what known() told an earlier daemon, empty if none: that holds where it cannot be
  /// tried just now, as on a full disk. Without it the reason why not is the error. `window` is where
  /// containers see the directory, if elsewhere.
  static result<std::unique_ptr<snapshots>> open(std::filesystem::path directory, snapshotter_kind wanted,
                                                 std::string_view known, std::filesystem::path window = {});
  /// What was found to work, for the next daemon.
  std::string known() const;

  snapshotter_kind kind() const noexcept { return kind_; }
  bool layered() const noexcept { return kind_ != snapshotter_kind::native; }
  bool user_namespace() const noexcept { return user_namespace_; }

  /// A fresh number with an empty fs directory (mode 0755).
  result<std::uint64_t> create();
  std::filesystem::path directory_of(std::uint64_t number) const {
    return directory_ / std::to_string(number);
  }
  std::filesystem::path fs_of(std::uint64_t number) const { return directory_of(number) / "fs"; }
  status remove(std::uint64_t number);
  /// Numbers of all directories there are.
  result<std::vector<std::uint64_t>> list() const;

  /// Read-only mount of layers, bottom first. `whiteouts`: a single layer may hold whiteouts.
  mount_spec read_only(std::span<const std::uint64_t> layers, bool whiteouts) const;
  /// Read-write mount of a snapshot on top of layers; each call makes a work directory of its own.
  result<mount_spec> read_write(std::uint64_t number, std::span<const std::uint64_t> layers);
  /// Removes work directories: nothing will be written any more.
  status seal(std::uint64_t number);

 private:
  explicit snapshots(std::filesystem::path directory) : directory_(std::move(directory)) {}
  status choose(snapshotter_kind wanted);
  status probe_overlay(bool fuse);
  bool take_known(std::string_view known, snapshotter_kind wanted);
  void add_overlay_options(std::vector<std::string>& options, bool writable) const;
  mount_spec bind(const std::filesystem::path& below, const char* access) const;

  std::filesystem::path directory_;
  std::filesystem::path window_;  // empty: containers see it where it is
  snapshotter_kind kind_ = snapshotter_kind::native;
  bool user_namespace_ = false;
  bool volatile_ = false;
  std::atomic<std::uint64_t> next_{1};
};

}  // namespace kiln::store
