#include "workers/executor/executor.hpp"

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <cstdlib>
#include <set>
#include <sstream>

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.hpp"
#include "base/files.hpp"
#include "base/json_text.hpp"
#include "base/program.hpp"
#include "base/slash_path.hpp"
#include "base/utf8.hpp"
#include "configs/executor.hpp"
#include "store/files/confinement.hpp"
#include "workers/executor/cgroups.hpp"
#include "workers/executor/container_files.hpp"
#include "workers/executor/environment.hpp"
#include "workers/executor/oci_spec.hpp"
#include "workers/executor/rooted.hpp"
#include "workers/executor/runtime_process.hpp"
#include "workers/executor/step_usage.hpp"
#include "workers/proxy/step_network.hpp"
#include "workers/proxy/trust.hpp"

namespace kiln::workers {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;

/// Empty where there is no such file. One that cannot be read is no file without name servers.
result<std::string> read_text(const fs::path& path) {
  auto text = kiln::read_file(path, configs::host_file_bytes_max);
  if (text.ok() || text.error().code != errc::not_found) return text;
  return std::string();
}

bool valid_id(const std::string& id) {
  return !id.empty() && id.size() <= 128 && id != "." && id != ".." &&
         std::all_of(id.begin(), id.end(), [](unsigned char c) {
           return std::isalnum(c) != 0 || c == '_' || c == '-' || c == '.' || c == '+';
         });
}

/// In a container's bundle: the groups that were made above its own, a line each.
constexpr const char* made_groups_file = "made-groups";

/// Whether a group can be one we made for that container, whoever wrote down so.
bool is_group_of(const std::string& group, const std::string& id) {
  return group.ends_with("/buildkit/" + id) && clean_absolute(group) == group;
}

/// The step's group, of the one that its runtime was told.
std::string without_runtime_group(const std::string& path) {
  auto end = std::string("/") + runtime_group;
  return path.ends_with(end) ? path.substr(0, path.size() - end.size()) : path;
}

/// What earlier versions let everybody write into: nothing there is to be believed, least what containers
/// there are.
status drop_open_directory(const fs::path& path) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) return {};
  if (info.st_uid != ::geteuid() || (info.st_mode & (S_IWGRP | S_IWOTH)) == 0) return {};
  spdlog::warn("{} could be written to by others: removed with all that is in it", path.string());
  return remove_tree(path);
}

/// What runtimes would each decide in their own way: the environment. And what their configuration cannot
/// say: the process would be somewhere else than it was told to be.
status finish_process(json& process, int root_fd, const process_io& io) {
  auto cwd = process.at("cwd").get<std::string>();
  if (!is_valid_utf8(cwd))
    return make_error(errc::invalid_argument, "the working directory \"" + valid_utf8(cwd) +
                                                  "\" is not UTF-8, which container runtimes do not take");
  auto home = home_in_root(root_fd, process.at("user").at("uid").get<std::uint32_t>());
  KILN_TRY(auto env, process_environment(process.at("env").get<std::vector<std::string>>(), home));
  auto is_stray = [](const std::string& text) { return !is_valid_utf8(text); };
  auto args = process.at("args").get<std::vector<std::string>>();
  if ((std::any_of(args.begin(), args.end(), is_stray) || std::any_of(env.begin(), env.end(), is_stray)) &&
      io.output)
    io.output(2,
              "note: bytes of the command or its environment that are not UTF-8 reach the process as U+FFFD; "
              "container runtimes take nothing else\n");
  process["env"] = std::move(env);
  return {};
}

/// runc gives a tmpfs the mode of the directory below, whatever it is told: one that is not there yet it has
/// to make itself.
result<std::vector<mount_point>> mount_points(const container_spec& spec, bool is_crun) {
  std::vector<mount_point> points;
  std::error_code ignored;
  for (const auto& m : spec.mounts) {
    if (!is_valid_utf8(m.destination))
      return make_error(errc::invalid_argument, "the mount point \"" + valid_utf8(m.destination) +
                                                    "\" is not UTF-8, which container runtimes do not take");
    bool bind = m.type == "bind";
    bool readonly = std::find(m.options.begin(), m.options.end(), "ro") != m.options.end();
    points.push_back({m.destination, !bind || fs::is_directory(m.source, ignored), bind ? m.source : "",
                      readonly, m.type == "tmpfs" && !is_crun});
  }
  for (const auto& m : spec.edits.mounts)
    points.push_back({m.container_path, m.type == "tmpfs" || fs::is_directory(m.host_path, ignored)});
  return points;
}

constexpr mode_t new_tmpfs_mode = 01777;

/// The root of a file system in memory gets the mode of the directory it covers, or one for everybody where
/// it covers none. runc does so by itself, and leaves the owner; crun only does as it is told.
void set_mode(container_mount& tmpfs, std::optional<mode_t> covered) {
  auto told = [](const std::string& option) { return option.starts_with("mode="); };
  if (std::any_of(tmpfs.options.begin(), tmpfs.options.end(), told)) return;
  std::ostringstream mode;
  mode << "mode=" << std::oct << covered.value_or(new_tmpfs_mode);
  tmpfs.options.push_back(mode.str());
}

}  // namespace

// A container between run()'s beginning and its end, for exec().
struct executor::running {
  std::mutex mutex;
  std::condition_variable_any changed;
  bool up = false;
  bool ended = false;
  fs::path bundle;
  json process;
  fs::path rootfs;
  std::vector<std::string> proxy_environment;  // empty: no proxy
};

executor::executor(executor_options options, std::string binary)
    : options_(std::move(options)),
      binary_(std::move(binary)),
      host_network_(workers::host_network()),
      no_network_(workers::no_network()) {}

executor::~executor() {
  auto group = cgroup_path(options_.default_cgroup_parent, "x");
  if (is_of_systemd(group)) return;
  // The directory of our containers' groups goes with its last container; rmdir refuses while there are any.
  for (const auto& hierarchy : cgroup_hierarchies())
    ::rmdir((hierarchy.string() + fs::path(group).parent_path().string()).c_str());
  groups_.leave(group);
}

bool executor::is_crun() const {
  return fs::path(binary_).filename().string().find("crun") != std::string::npos;
}

std::string executor::default_network() const { return default_network_->name(); }

result<std::unique_ptr<executor>> executor::open(executor_options options) {
  std::optional<std::string> binary;
  if (!options.binary.empty()) {
    binary = find_program(options.binary);
    if (!binary) return make_error(errc::not_found, "failed to find " + options.binary + " binary");
  } else {
    for (const char* name : {"buildkit-crun", "crun", "buildkit-runc", "runc"}) {
      if (!binary) binary = find_program(name);
    }
    if (!binary) return make_error(errc::not_found, "failed to find crun or runc binary");
  }
  KILN_CHECK(drop_open_directory(options.root));
  auto root = store::private_directory::open(options.root);
  if (!root.ok()) return std::move(root).error().with_context("the executor's directory");
  options.root = root->path();
  KILN_TRY(auto network, network_for_mode(options.network, options.root / "net"));
  std::unique_ptr<executor> e(new executor(std::move(options), *std::move(binary)));
  e->default_network_ = std::move(network);
  KILN_TRY(e->runtime_, root->directory("runtime"));
  KILN_TRY(e->bundles_, root->directory("containers"));
  e->root_ = *std::move(root);
  e->hide_unified_ = e->is_crun() && hybrid_cgroups();
  KILN_CHECK(check_cgroup_parent(e->options_.default_cgroup_parent));
  KILN_CHECK(e->sweep());
  (void)e->groups_.enter(
      cgroup_path(e->options_.default_cgroup_parent, "x"));  // as long as this executor lives
  return e;
}

// What a killed daemon left: for every bundle its container, group and mounts. The order matters: the bundle
// is what names the rest, so it goes last.
status executor::sweep() {
  KILN_TRY(auto bundled, bundles_.names());
  KILN_TRY(auto known, runtime_.names());  // to the runtime, be it without a bundle
  std::set<std::string> ids(bundled.begin(), bundled.end());
  ids.insert(known.begin(), known.end());
  for (const auto& id : ids) sweep_container(id);
  if (!ids.empty()) spdlog::info("swept {} containers of a former daemon", ids.size());
  for (const char* name : {"hosts", "resolv.conf", "resolv-host.conf"}) KILN_CHECK(root_.remove(name));
  return root_.sweep_unfinished();
}

void executor::sweep_container(const std::string& id) {
  auto warn = [&](const status& s, const std::string& what) {
    if (!s.ok()) spdlog::warn("sweeping {}: {}", what, s.error().message);
  };
  if (valid_id(id)) {
    std::vector<std::string> argv{binary_, "--root", runtime_.path().string(), "delete", "--force", id};
    if (auto code = run_command(argv, hide_unified_); !code) warn(std::move(code).error(), "container " + id);
    std::string group = cgroup_path(options_.default_cgroup_parent, id);
    std::vector<fs::path> made;
    if (auto bundle = bundles_.directory(id); bundle.ok()) {
      if (auto lines = bundle->read(made_groups_file, configs::made_groups_bytes_max); lines.ok()) {
        std::istringstream in(*lines);
        for (std::string line; std::getline(in, line);) made.emplace_back(line);
      }
      auto text = bundle->read("config.json", configs::bundle_config_bytes_max);
      json config = text.ok() ? json_or_null(*text) : json();
      if (const auto* own = member_of(config, "linux"))
        if (auto path = text_member(*own, "cgroupsPath"); !path.empty()) group = without_runtime_group(path);
    }
    if (is_group_of(group, id)) {
      warn(remove_cgroup(group), "cgroup " + group);
      remove_parents(made, group);
    }
    warn(runtime_.remove(id), "state of container " + id);
  }
  warn(bundles_.remove(id), "bundle of container " + id);
}

result<std::string> executor::resolv_conf_file(bool host_network) {
  std::lock_guard lock(mutex_);
  const char* name = host_network ? "resolv-host.conf" : "resolv.conf";
  std::string file = root_.path() / name;
  resolv_source& source = resolv_[host_network ? 1 : 0];
  struct stat st {};
  if (source.path.empty() || ::stat(source.path.c_str(), &st) != 0) st = {};
  if (!source.path.empty() && st.st_mtim.tv_sec == source.seconds &&
      st.st_mtim.tv_nsec == source.nanoseconds && root_.has(name)) {
    return file;
  }
  source.path.clear();
  KILN_TRY(auto etc, read_text("/etc/resolv.conf"));
  source.path = resolv_conf_path(etc, host_network);
  if (::stat(source.path.c_str(), &st) != 0) st = {};
  source.seconds = st.st_mtim.tv_sec;
  source.nanoseconds = st.st_mtim.tv_nsec;
  KILN_TRY(auto host, read_text(source.path));
  KILN_TRY(std::string text, resolv_conf_text(host, options_.dns, host_network));
  KILN_CHECK(root_.write(name, text, 0644));  // containers that run keep what they have
  return file;
}

result<std::string> executor::hosts_file(const container_spec& spec, const store::private_directory& bundle) {
  bool standard =
      spec.extra_hosts.empty() && (spec.hostname.empty() || spec.hostname == configs::default_hostname);
  if (!standard) {
    KILN_CHECK(bundle.write("hosts", hosts_text(spec.hostname, spec.extra_hosts), 0644));
    return (bundle.path() / "hosts").string();
  }
  std::lock_guard lock(mutex_);
  if (!root_.has("hosts")) KILN_CHECK(root_.write("hosts", hosts_text("", {}), 0644));
  return (root_.path() / "hosts").string();
}

std::vector<std::string> executor::runtime_arguments(const std::string& group) const {
  std::vector<std::string> argv{binary_, "--root", runtime_.path().string()};
  bool systemd = !group.empty() && is_of_systemd(group);
  if (is_crun()) {
    argv.push_back(systemd ? "--cgroup-manager=systemd" : "--cgroup-manager=cgroupfs");
  } else if (systemd) {
    argv.emplace_back("--systemd-cgroup");
  }
  return argv;
}

result<exit_state> executor::run(const container_spec& wanted, const process_io& io, std::stop_token stop) {
  runtime_process::ending ending(io);
  if (stop.stop_requested()) return make_error(errc::cancelled, "context canceled");
  container_spec spec = wanted;
  if (spec.id.empty()) spec.id = new_id();
  if (!valid_id(spec.id))
    return make_error(errc::invalid_argument, "invalid container id \"" + spec.id + "\"");
  if (spec.process.args.empty()) return make_error(errc::invalid_argument, "no command specified");

  auto state = std::make_shared<running>();
  state->bundle = bundles_.path() / spec.id;
  state->rootfs = spec.rootfs;
  {
    std::lock_guard lock(mutex_);
    if (!running_.emplace(spec.id, state).second) {
      return make_error(errc::already_exists, "container " + spec.id + " exists already");
    }
  }
  auto outcome = run_registered(spec, *state, io, stop);
  {
    std::lock_guard lock(mutex_);
    running_.erase(spec.id);
  }
  std::lock_guard lock(state->mutex);
  state->ended = true;
  state->changed.notify_all();
  return outcome;
}

result<network_provider*> executor::provider_of(pb::NetMode mode) const {
  switch (static_cast<int>(mode)) {
    case pb::UNSET: return default_network_.get();
    case pb::HOST: return host_network_.get();
    case pb::NONE: return no_network_.get();
    default: return make_error(errc::invalid_argument, "invalid network mode " + std::to_string(mode));
  }
}

result<std::shared_ptr<proxy::certificates>> executor::proxy_authority() {
  std::lock_guard lock(authority_mutex_);
  if (!authority_) {
    KILN_TRY(authority_, proxy::certificates::make());
  }
  return authority_;
}

result<exit_state> executor::run_registered(const container_spec& wanted, running& state,
                                            const process_io& io, std::stop_token stop) {
  container_spec spec = wanted;
  KILN_CHECK(check_cgroup_parent(spec.cgroup_parent));
  KILN_TRY(auto* provider, provider_of(spec.network));
  KILN_TRY(auto network, provider->make(spec.proxy != nullptr ? "" : spec.hostname));
  std::unique_ptr<proxy::step_network> proxied;
  if (spec.proxy != nullptr) {
    KILN_TRY(auto authority, proxy_authority());
    KILN_TRY(proxied, proxy::step_network::open(std::move(authority), std::move(network), *spec.proxy));
    auto more = proxied->environment();
    spec.process.env.insert(spec.process.env.end(), more.begin(), more.end());
  }

  if (bundles_.has(spec.id)) return errno_error(EEXIST, "mkdir " + state.bundle.string());
  KILN_TRY(auto bundle, bundles_.directory(spec.id));
  std::string group =
      cgroup_path(spec.cgroup_parent.empty() ? options_.default_cgroup_parent : spec.cgroup_parent, spec.id);
  auto made = groups_.enter(group);
  // Whatever happens below, nothing of the container stays. The runtime has usually removed its own part.
  struct cleaner {
    executor& self;
    const container_spec& spec;
    const std::string& group;
    ~cleaner() {
      auto warn = [&](const status& s, const char* what) {
        if (!s.ok()) spdlog::warn("{} of container {}: {}", what, spec.id, s.error().message);
      };
      if (self.runtime_.has(spec.id)) {
        auto argv = self.runtime_arguments(group);
        argv.insert(argv.end(), {"delete", "--force", spec.id});
        if (auto code = run_command(argv, self.hide_unified_); !code)
          warn(std::move(code).error(), "deletion");
        warn(self.runtime_.remove(spec.id), "state");
      }
      if (!is_of_systemd(group)) warn(remove_cgroup(group), "cgroup");
      self.groups_.leave(group);
      warn(self.bundles_.remove(spec.id), "bundle");
    }
  } clean_up{*this, spec, group};
  if (!made.empty()) {
    std::string lines;
    for (const auto& directory : made) lines += directory.string() + "\n";
    KILN_CHECK(bundle.write(made_groups_file, lines, 0600));
  }

  KILN_TRY(auto root, store::open_confined(spec.rootfs));

  spec_context context;
  context.cgroup_path = is_of_systemd(group) ? group : group + "/" + runtime_group;
  context.host_network = !proxied && network->host();
  context.network_path = proxied ? proxied->path() : network->path();
  context.process_sandbox = options_.process_sandbox;
  context.apparmor_profile = options_.apparmor_profile;
  context.precompiled_seccomp = is_crun();
  KILN_TRY(context.hosts_file, hosts_file(spec, bundle));
  KILN_TRY(context.resolv_conf, resolv_conf_file(spec.network == pb::HOST));
  KILN_TRY(context.user, find_user_in_root(root.get(), spec.process.user));

  KILN_TRY(auto points, mount_points(spec, is_crun()));
  mount_stubs stubs(root.get(), points, spec.remove_mount_stubs_recursive);
  for (std::size_t i = 0; i < spec.mounts.size(); ++i)
    if (spec.mounts[i].type == "tmpfs") set_mode(spec.mounts[i], stubs.covered_mode(i));
  stubs.make(root.get());

  std::string cwd = spec.process.cwd.empty() ? "/" : spec.process.cwd;
  unique_fd working(open_in_root(root.get(), cwd, O_PATH));
  if (!working) {
    auto made = make_directories_in_root(root.get(), cwd, 0755, context.user.uid, context.user.gid);
    if (!made) return std::move(made).error().with_context("failed to create working directory " + cwd);
  }
  working.reset();

  KILN_TRY(json config, make_oci_spec(spec, context));
  {
    std::lock_guard lock(state.mutex);
    state.process = config["process"];
    if (proxied) state.proxy_environment = proxied->environment();
  }
  KILN_CHECK(finish_process(config["process"], root.get(), io));
  KILN_CHECK(bundle.write("config.json", json_text(config), 0600));

  runtime_process::options call;
  call.argv = runtime_arguments(group);
  call.pid_file = (state.bundle / "pid").string();
  call.argv.insert(call.argv.end(),
                   {"run", "--bundle", state.bundle.string(), "--pid-file", call.pid_file, spec.id});
  call.tty = spec.process.tty;
  if (is_crun()) call.console_directory = state.bundle.string();
  call.hide_unified_cgroup = hide_unified_;
  step_usage usage(group);
  usage.watch_memory();
  call.looks_on = [&usage] { return usage.look(); };
  proxy::trusted_ca trusted;
  if (proxied) {
    KILN_TRY(trusted, proxy::trusted_ca::put(root.get(), proxied->ca()));
  }
  auto code = runtime_process::run(call, io, stop);
  proxied.reset();  // what it recorded is all there is
  auto untrusted = trusted.take_out(root.get());
  stubs.clean(root.get());
  if (stop.stop_requested()) return make_error(errc::cancelled, "context canceled");
  if (!code) return std::move(code).error();
  KILN_CHECK(untrusted);
  exit_state end;
  end.code = *code;
  end.out_of_memory = *code != 0 && usage.out_of_memory();
  end.usage = usage.finish();
  return end;
}

result<exit_state> executor::exec(const std::string& container, const process_spec& process,
                                  const process_io& io, std::stop_token stop) {
  runtime_process::ending ending(io);
  if (process.args.empty()) return make_error(errc::invalid_argument, "no command specified");
  std::shared_ptr<running> state;
  {
    std::lock_guard lock(mutex_);
    auto it = running_.find(container);
    if (it == running_.end()) return make_error(errc::not_found, "container " + container + " not found");
    state = it->second;
  }
  // The pid file is the last thing a runtime writes before the container runs.
  json own;
  {
    std::unique_lock lock(state->mutex);
    auto give_up = std::chrono::steady_clock::now() + configs::exec_start_wait;
    while (!state->ended && ::access((state->bundle / "pid").c_str(), F_OK) != 0) {
      if (stop.stop_requested()) return make_error(errc::cancelled, "context canceled");
      if (std::chrono::steady_clock::now() > give_up) {
        return make_error(errc::deadline_exceeded, "container " + container + " did not start");
      }
      state->changed.wait_for(lock, stop, std::chrono::milliseconds(5), [&] { return state->ended; });
    }
    if (state->ended) return make_error(errc::failed_precondition, "container " + container + " has stopped");
    own = state->process;
  }
  std::optional<user_ids> user;
  KILN_TRY(auto root, store::open_confined(state->rootfs));
  if (!process.user.empty()) {
    KILN_TRY(user, find_user_in_root(root.get(), process.user));
  }
  auto with_proxy = process;
  if (!process.env.empty())  // otherwise it has the container's own
    with_proxy.env.insert(with_proxy.env.end(), state->proxy_environment.begin(),
                          state->proxy_environment.end());
  auto description = make_exec_process(own, with_proxy, user);
  KILN_CHECK(finish_process(description, root.get(), io));
  std::string name = "exec-" + new_id();
  fs::path file = state->bundle / (name + ".json");
  KILN_TRY(auto bundle, bundles_.directory(container));
  KILN_CHECK(bundle.write(name + ".json", json_text(description), 0600));

  runtime_process::options call;
  call.argv = runtime_arguments("");
  call.pid_file = (state->bundle / (name + ".pid")).string();
  call.argv.insert(call.argv.end(),
                   {"exec", "--process", file.string(), "--pid-file", call.pid_file, container});
  call.tty = process.tty;
  if (is_crun()) call.console_directory = state->bundle.string();
  call.hide_unified_cgroup = hide_unified_;
  auto code = runtime_process::run(call, io, stop);
  ::unlink(file.c_str());
  ::unlink(call.pid_file.c_str());
  if (stop.stop_requested()) return make_error(errc::cancelled, "context canceled");
  if (!code) return std::move(code).error();
  return exit_state{*code, false};
}

}  // namespace kiln::workers
