// The operations a frontend emits: sources, exec, file operations, merge and diff.
// Each function makes one vertex in a graph and returns its output. Pure; thread-safe as the graph is.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "frontends/llb/graph.hpp"

namespace kiln::llb {

/// A source by identifier ("docker-image://…", "local://…"). Source: client/llb/source.go NewSource.
output source(graph& g, std::string identifier, std::map<std::string, std::string> attributes, op_info info);

/// An image by normalized reference. `resolve_mode` is "" (default), "pull" or "local".
output image(graph& g, const std::string& reference, const std::string& resolve_mode, op_info info);

struct local_options {
  std::string session_id;
  std::vector<std::string> include_patterns;
  std::vector<std::string> exclude_patterns;
  std::vector<std::string> follow_paths;
  std::string shared_key_hint;
  std::string differ;  // "none", "metadata" or "" for the default
};
output local(graph& g, const std::string& name, const local_options& options, op_info info);

struct http_options {
  std::string checksum;
  std::string filename;
};
output http(graph& g, const std::string& url, const http_options& options, op_info info);

struct git_options {
  std::string remote;  // what git is given
  std::string id;      // "host/path"
  bool ssh = false;
  std::string ref;
  std::string subdir;
  std::string checksum;
  bool keep_git_dir = false;
  bool skip_submodules = false;
  std::string mtime;  // "", "checkout" or "commit"
  bool fetch_by_commit = false;
};
output git(graph& g, const git_options& options, op_info info);

/// An image in an OCI layout that the client's session serves.
output oci_layout(graph& g, const std::string& reference, const std::string& session_id,
                  const std::string& store_id, op_info info);

struct mount_spec {
  std::string target;
  output source;
  std::string selector;
  bool readonly = false;
  bool no_output = false;
  std::string cache_id;  // non-empty: a cache mount
  pb::CacheSharingOpt sharing = pb::CacheSharingOpt::SHARED;
  bool tmpfs = false;
  std::int64_t tmpfs_size = 0;  // bytes, 0 = unlimited
};

struct secret_spec {
  std::string id;
  std::optional<std::string> target;  // none: not mounted
  std::optional<std::string> env;     // none: not in the environment
  std::uint32_t uid = 0, gid = 0, mode = 0400;
  bool optional = false;
};

struct ssh_spec {
  std::string id;
  std::string target;  // empty: /run/buildkit/ssh_agent.<n>
  std::uint32_t uid = 0, gid = 0, mode = 0600;
  bool optional = false;
};

struct exec_spec {
  std::vector<std::string> args;
  env_list env;
  std::string cwd = "/";
  std::string user;
  std::string hostname;
  std::string cgroup_parent;
  std::vector<std::pair<std::string, std::string>> extra_hosts;  // name, address
  std::vector<pb::Ulimit> ulimits;
  pb::NetMode network = pb::NetMode::UNSET;
  pb::SecurityMode security = pb::SecurityMode::SANDBOX;
  std::optional<pb::ProxyEnv> proxy;
  std::vector<mount_spec> mounts;  // besides the root
  std::vector<secret_spec> secrets;
  std::vector<ssh_spec> ssh;
  std::vector<pb::CDIDevice> devices;
};

/// Runs a command on `root`; returns the new root. Mount i of the spec is slot i+1 of the same vertex.
/// Source: client/llb/exec.go Marshal.
output exec(graph& g, output root, exec_spec spec, op_info info);

/// One step of a file operation; steps are applied in order on the same base.
struct file_step {
  pb::FileAction action;  // input, secondaryInput and output are filled in when marshalling
  std::optional<output> copy_source;
};

/// "user[:group]"; numbers are ids, "root" is 0, anything else a name looked up in the base.
pb::ChownOpt chown_option(const std::string& spec);
pb::ChownOpt chown_option(std::uint32_t uid, std::uint32_t gid);

/// Absolute, cleaned; a trailing "/" or "/." survives if asked. Source: client/llb/fileop.go normalizePath.
std::string normalize_file_path(const std::string& parent, const std::string& path, bool keep_slash);

file_step mkdir_step(std::string path, int mode, bool parents, std::optional<pb::ChownOpt> owner,
                     std::optional<std::int64_t> created_ns);
file_step mkfile_step(std::string path, int mode, std::string data);

/// Source: client/llb/fileop.go Marshal.
output file(graph& g, output base, std::vector<file_step> steps, op_info info);

/// Layers on top of each other; scratch inputs vanish, fewer than two need no operation.
output merge(graph& g, const std::vector<output>& inputs, op_info info);

/// The difference of two outputs; scratch lower gives upper. Source: client/llb/diff.go.
output diff(graph& g, output lower, output upper, op_info info);

}  // namespace kiln::llb
