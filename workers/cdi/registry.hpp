// The CDI devices of this host: what the spec files of some directories offer, read anew whenever one of them
// changes. Later directories take precedence; a device that two files of one directory offer is nobody's.
// Files that cannot be used are warnings. Knows nothing of builds or entitlements. Thread-safe; every
// question looks at the directories. Source: the CDI specification;
// solver/llbsolver/cdidevices.
#pragma once

#include <filesystem>
#include <memory>
#include <mutex>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "solver/devices.hpp"
#include "workers/cdi/spec.hpp"

namespace kiln::workers::cdi {

struct registry_options {
  std::vector<std::string> spec_dirs;     // those that are missing may come
  std::vector<std::string> auto_allowed;  // devices and kinds every build may have
};

class registry {
 public:
  explicit registry(registry_options options);
  ~registry();

  /// Sorted by name.
  std::vector<solver::device> devices();
  /// What the devices meant by `wanted` change in a container: once the edits of each spec they are from,
  /// then their own, with device nodes complete. not_found: required device "X" is not registered, or its
  /// node is not there.
  result<container_edits> edits_of(std::span<const pb::CDIDevice> wanted);
  /// What is wrong with the files now; each names its file. New ones have been logged.
  std::vector<std::string> warnings();

 private:
  struct contents;
  std::shared_ptr<const contents> now();

  registry_options options_;
  std::mutex mutex_;
  std::string stamp_;  // of the files `contents_` is from
  std::shared_ptr<const contents> contents_;
};

}  // namespace kiln::workers::cdi
