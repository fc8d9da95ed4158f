// What is run in a container, as plain data: the executor's input. Knows nothing of refs, ops or sessions.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "base/unique_fd.hpp"
#include "ops.pb.h"
#include "workers/cdi/spec.hpp"

namespace kiln::workers {

namespace proxy {
struct step_rules;  // workers/proxy/step_network.hpp
}

/// One OCI mount besides the standard ones. `source` must exist; destinations are absolute.
struct container_mount {
  std::string destination;
  std::string type;  // bind, overlay, tmpfs
  std::string source;
  std::vector<std::string> options;
};

struct process_spec {
  std::vector<std::string> args;
  std::vector<std::string> env;  // NAME=value
  std::string cwd = "/";         // made if missing (run only)
  std::string user;              // name, uid, name:group, uid:gid; empty = root
  bool tty = false;
};

struct container_spec {
  std::string id;                // empty = a fresh one
  std::filesystem::path rootfs;  // for containers: we open it confined only
  bool readonly_rootfs = false;
  std::vector<container_mount> mounts;
  process_spec process;
  std::string hostname;                                          // empty = buildkitsandbox
  std::vector<std::pair<std::string, std::string>> extra_hosts;  // name, address
  pb::NetMode network = pb::UNSET;
  /// A proxy is all that it reaches, and `network` is where the proxy's requests leave from; outlives the
  /// container. Null: it has the network itself.
  const proxy::step_rules* proxy = nullptr;
  pb::SecurityMode security = pb::SANDBOX;
  std::vector<pb::Ulimit> ulimits;
  std::string cgroup_parent;  // empty = the worker's
  std::optional<pb::LinuxResources> resources;
  bool remove_mount_stubs_recursive = false;
  cdi::container_edits edits;  // of the devices it gets; device nodes complete
};

/// How a process ended. A runtime that could not start it counts as the process' own failure, with
/// the runtime's message in its standard error, as with runc.
struct exit_state {
  int code = 0;
  bool out_of_memory = false;  // the kernel killed something in the container for memory
  std::string usage = {};      // what it used, as JSON (executor/step_usage.hpp); empty: not known
};

/// Steers a running process from other threads: input, terminal size, signals. One per process.
/// Calls before the process runs wait for it; calls after its end do nothing.
class process_control {
 public:
  /// Writes to standard input; blocks while the process does not read. False when it is gone.
  bool write_input(std::string_view bytes);
  void close_input();
  void resize(unsigned rows, unsigned columns);
  void signal(int number);

 private:
  friend class runtime_process;
  bool wait_attached(std::unique_lock<std::mutex>& lock);

  std::mutex mutex_;
  std::condition_variable changed_;
  bool attached_ = false;
  bool ended_ = false;
  unique_fd input_;     // write end of the pipe, or a duplicate of the terminal's master
  unique_fd terminal_;  // master, when there is one
  std::function<void(int)> send_;
};

/// Where a process' streams go. Callbacks run on the thread that called run() or exec(); one that
/// blocks holds the process back.
struct process_io {
  std::function<void(int stream, std::string_view bytes)> output;  // 1 stdout, 2 stderr; a tty has 1 only
  std::function<void()> started;
  process_control* control = nullptr;  // null: standard input is /dev/null
};

}  // namespace kiln::workers
