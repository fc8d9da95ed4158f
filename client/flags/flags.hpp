// What the command line said, as plain data, before anything is looked up or opened.
#pragma once

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "client/connect/dial.hpp"

namespace kiln::client {

struct global_flags {
  bool debug = false;
  std::string address;  // empty: not given, neither by flag nor by environment
  std::string log_format = "text";
  tls_options tls;
  int timeout_seconds = 5;
  bool wait = false;
};

struct build_flags {
  // buildctl's grammar.
  std::string frontend;
  std::vector<std::string> outputs;
  std::vector<std::string> locals;
  std::vector<std::string> oci_layouts;
  std::vector<std::string> opts;
  std::vector<std::string> export_caches;
  std::vector<std::string> import_caches;
  std::vector<std::string> secrets;
  std::vector<std::string> ssh;
  std::vector<std::string> allow;
  std::vector<std::string> auth_tls;
  std::string progress = "auto";
  std::string trace_file;
  std::string metadata_file;
  std::string source_policy_file;
  std::string ref_file;
  std::string cache_metrics;
  bool no_cache = false;
  bool proxy_network = false;

  // The short grammar.
  std::optional<std::string> context;
  std::string file;
  std::vector<std::string> tags;
  std::string target;
  std::vector<std::string> build_args;
  std::vector<std::string> labels;
  std::vector<std::string> platforms;
  std::vector<std::string> build_contexts;
  std::vector<std::string> add_hosts;
  std::vector<std::string> attests;
  std::vector<std::string> no_cache_filters;
  std::vector<std::string> ulimits;
  std::string sbom;
  std::string provenance;
  std::string network;
  std::string shm_size;
  std::string cgroup_parent;
  std::string call;
  std::string iid_file;
  bool push = false;
  bool load = false;
  bool pull = false;
  bool check = false;
  bool quiet = false;

  /// Whether the short grammar was used: a context or one of its flags.
  bool is_short() const;
};

struct du_flags {
  std::vector<std::string> filters;
  bool verbose = false;
  std::string format;
};

struct prune_flags {
  double keep_storage_mb = 0;
  double keep_storage_min_mb = 0;
  double free_storage_mb = 0;
  std::int64_t keep_duration_ns = 0;
  std::vector<std::string> filters;
  bool all = false;
  bool verbose = false;
  std::string format;
};

struct prune_histories_flags {
  std::string format;
};
struct workers_flags {
  std::vector<std::string> filters;
  bool verbose = false;
  std::string format;
};
struct info_flags {
  std::string format;
};
struct histories_flags {
  std::string format;
};
struct logs_flags {
  std::string ref;
  std::string progress = "auto";
  bool trace = false;
};
struct monitor_flags {
  bool completed = false;
  std::string ref;
};
struct get_flags {
  std::string digest;
};
struct ctl_flags {
  std::string ref;
  bool pin = false;
  bool unpin = false;
  bool remove = false;
};
struct dump_llb_flags {
  bool dot = false;
  std::string file;
};
struct dump_metadata_flags {
  std::string root = "/var/lib/buildkit";
};
struct dial_stdio_flags {};
struct cluster_flags {
  std::string format;
};
struct cluster_drain_flags {
  std::string node;
  bool wait = false;  // until it has left
};
struct cluster_certs_flags {
  std::string directory;
  std::vector<std::string> nodes;  // name or name=host,host
};

/// Help or version: printed, then the program ends with 0.
struct print_flags {
  std::string text;
};

using command_flags = std::variant<print_flags, build_flags, du_flags, prune_flags, prune_histories_flags,
                                   workers_flags, info_flags, histories_flags, logs_flags, monitor_flags,
                                   get_flags, ctl_flags, dump_llb_flags, dump_metadata_flags,
                                   dial_stdio_flags, cluster_flags, cluster_drain_flags, cluster_certs_flags>;

struct command_line {
  global_flags global;
  command_flags command;
};

/// One flag or argument as the help has it. `command` is empty for what every command has; `form` says what
/// it takes: "" (nothing), "text", "texts" (may be given again).
struct flag_text {
  std::string command, name, form, default_value, help;
};
/// All there are, in the help's order.
std::vector<flag_text> flag_texts();

/// Parses the arguments after the program's name. `program` is the name it was called by: "kilnctl" or
/// "buildctl". invalid_argument names the flag or argument. Reads BUILDKIT_HOST and KILN_HOST. Source:
/// buildctl main.go and its command files.
result<command_line> parse_command_line(const std::string& program,
                                        const std::vector<std::string>& arguments);

}  // namespace kiln::client
