// Making and undoing mounts from mount_specs: bind (read-only too), overlay with any number of layers,
// fuse-overlayfs. Knows nothing of records. Thread-safe.
#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "store/files/scratch_directory.hpp"

namespace kiln::store {

class ref_store;

/// One mount(2) to make: type "bind" or "overlay" (or "fuse-overlayfs", a helper to start).
struct mount_spec {
  std::string type;
  std::string source;
  std::vector<std::string> options;
  std::string container_source =
      {};  // what containers bind instead, where ours is confined (confinement.hpp)
};

/// Who will look into a mount. What the daemon looks into itself is nodev, nosuid and noexec.
enum class mount_use { daemon, container };

/// Mounts the specs, in order, on `target` (an existing directory), for us as nodev, nosuid and noexec.
/// Nothing stays mounted on failure. Overlays with more layers than fit into mount(2)'s page go through
/// fsconfig(2), or, on kernels without `lowerdir+`, through relative paths.
status mount_all(std::span<const mount_spec> specs, const std::filesystem::path& target,
                 mount_use use = mount_use::daemon);

/// Detaches what is mounted on `target`; an error when nothing is.
status unmount(const std::filesystem::path& target);

/// Mount points below (not on) the directory, in order of mounting.
result<std::vector<std::filesystem::path>> mounts_below(const std::filesystem::path& directory);

/// Detaches everything mounted below (not on) the directory, deepest first; how many that were.
result<int> unmount_below(const std::filesystem::path& directory);

/// Whether this process is in a user namespace other than the first.
result<bool> in_user_namespace();

/// Whether a mount (or what was tried on it) failed because it cannot work here at all, and not because of
/// what may be otherwise the next time: no space, no memory, no descriptors, a broken or read-only disk.
bool is_unsupported(const error& e);

/// Mounts a ref or snapshot on a private directory and unmounts it on destruction. Move-only.
class mounted {
 public:
  mounted() = default;
  mounted(mounted&& other) noexcept;
  mounted& operator=(mounted&& other) noexcept;
  ~mounted();
  /// The mount point is a scratch directory (of the store). A lone writable bind needs no mount. What is for
  /// a container we look into through open_confined() only.
  static result<mounted> make(const scratch_directory& scratch, const std::vector<mount_spec>& specs,
                              mount_use use = mount_use::daemon);
  static result<mounted> make(ref_store& store, const std::vector<mount_spec>& specs,
                              mount_use use = mount_use::daemon);
  const std::filesystem::path& path() const noexcept { return path_; }
  status unmount();

 private:
  std::filesystem::path path_;
  bool is_mount_ = false;  // a single read-write bind needs no mount: path_ is the directory itself
};

}  // namespace kiln::store
