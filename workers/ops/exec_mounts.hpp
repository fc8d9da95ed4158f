// The mounts of one exec step: from what the op says and its inputs to what a container gets, and back to
// outputs. Owns everything made on the way; destroying it gives all of it back. One step, one thread. Source:
// solver/llbsolver/mounts/mount.go, frontend/gateway/container.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "messages/job.hpp"
#include "workers/executor/private_mount.hpp"
#include "workers/ops/client_secrets.hpp"
#include "workers/worker_resources.hpp"

namespace kiln::workers {

/// The input of each mount; empty where there is none.
std::vector<store::ref> inputs_of_mounts(const pb::ExecOp& op, std::span<const store::ref> inputs);

class exec_mounts {
 public:
  exec_mounts(worker_resources& resources, const job_context& job) : resources_(resources), job_(job) {}

  /// Prepares every mount of the op. Errors name the mount.
  status prepare(const pb::ExecOp& op, std::span<const store::ref> inputs);

  /// One more mount after prepare(): a directory of the container's own, read-only, with one file that only
  /// its root may read.
  status add_document(const std::string& directory, const std::string& name, std::string_view bytes);

  /// The root file system's directory, mounted.
  const std::filesystem::path& rootfs() const { return root_.path(); }
  bool readonly_rootfs() const { return readonly_root_; }
  const std::vector<container_mount>& mounts() const { return mounts_; }

  /// Instead of commit(), after a failure: unmounts everything. One ref a mount: what was written there, or
  /// the input; empty for other kinds of mounts.
  std::vector<store::ref> abandon(const pb::ExecOp& op, std::span<const store::ref> inputs);

  /// Unmounts everything and commits what was written; one ref an output, in the op's order.
  result<std::vector<store::ref>> commit();

 private:
  struct output {
    int mount = 0;
    std::int64_t index = 0;
    store::ref same;              // passed through, or
    store::mutable_ref snapshot;  // to be committed
  };

  /// What a mount point shows: a directory on the host, as containers get it (not confined).
  struct source {
    std::string path;
    bool immutable = false;  // nobody writes there while we run
    bool readonly = false;   // mounted so already
  };

  status prepare_one(const pb::ExecOp& op, int index, std::span<const store::ref> inputs);
  void keep(int mount, std::int64_t output, store::mutable_ref snapshot);
  status add_bind(const pb::Mount& m, const std::string& destination, const source& s);
  status add_secret(const pb::Mount& m, const std::string& destination);
  status add_ssh(const pb::Mount& m, const std::string& destination);
  result<store::mutable_ref> make_mutable(const store::ref& base, const std::string& description);
  result<source> mount_ref(const store::ref& ref);
  result<source> mount_mutable(const store::mutable_ref& snapshot);
  result<std::filesystem::path> fresh_directory();
  void unmount_all();

  worker_resources& resources_;
  const job_context& job_;
  std::string command_;  // for descriptions
  std::vector<container_mount> mounts_;
  store::mounted root_;
  bool readonly_root_ = false;
  std::vector<output> outputs_;
  std::vector<std::pair<int, store::mutable_ref>> thrown_away_;  // by mount
  std::vector<store::mounted> mounted_;
  std::vector<std::unique_ptr<ssh_socket>> sockets_;
  std::map<std::string, std::shared_ptr<cache_mount>> caches_;  // by key: the same one twice in a step
  std::vector<private_mount> private_mounts_;                   // gone before what they show
};

}  // namespace kiln::workers
