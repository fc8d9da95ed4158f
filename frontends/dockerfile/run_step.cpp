// RUN: arguments, heredocs, mounts, secrets, network, security.
#include "configs/frontends.hpp"
#include "frontends/dockerfile/converter.hpp"
#include "frontends/dockerfile/refusal.hpp"
#include "frontends/dockerfile/text.hpp"

namespace kiln::dockerfile {

namespace {

constexpr std::uint32_t default_secret_mode = 0400;
constexpr std::uint32_t default_ssh_mode = 0600;
constexpr int default_cache_mode = 0755;

// Shows that a value comes from a secret, not the value.
class masked_environment final : public environment {
 public:
  masked_environment(const environment& base, std::set<std::string> hidden)
      : base_(base), hidden_(std::move(hidden)) {}
  std::optional<std::string> get(std::string_view name) const override {
    return hidden_.contains(std::string(name)) ? std::optional<std::string>("****") : base_.get(name);
  }
  std::vector<std::string> names() const override { return base_.names(); }

 private:
  const environment& base_;
  std::set<std::string> hidden_;
};

llb::op_info inline_document() {
  llb::op_info info;
  info.name("[internal] preparing inline document");
  return info;
}

}  // namespace

result<std::vector<std::string>> converter::run_arguments(stage_state& s, const run_instruction& i,
                                                          llb::exec_spec& spec, std::string& label) {
  auto args = i.args;
  if (!i.files.empty()) {
    if (args.size() != 1 || !i.prepend_shell)
      return invalid("parsing produced an invalid run command: " + bracketed(args));
    auto doc = parse_heredoc_word(args[0]);
    if (doc && *doc) {
      const auto& file = i.files.front();
      auto data = file.chomp ? chomp_heredoc(file.content) : file.content;
      if (s.image.platform.os != "windows" && data.starts_with("#!")) {
        // A script of its own: mounted and executed.
        const std::string directory = "/dev/pipes/";
        std::vector<llb::file_step> steps;
        steps.push_back(llb::mkfile_step(llb::normalize_file_path("/", file.name, false), 0755, data));
        llb::mount_spec mount;
        mount.target = directory;
        mount.source = llb::file(graph_, {}, std::move(steps), inline_document());
        mount.selector = "/";
        mount.readonly = true;
        spec.mounts.push_back(std::move(mount));
        args = {path_join(directory, file.name)};
      } else {
        args = {data};
      }
      label += " (" + heredoc_summary(file.content) + ")";
    } else {
      for (const auto& file : i.files) args[0] += "\n" + file.content + file.name;
    }
  }
  return i.prepend_shell ? with_shell(s, args) : args;
}

llb::output converter::cache_directory(const run_mount& m, llb::output base) {
  llb::op_info info;
  info.name("[internal] setting cache mount permissions");
  std::vector<llb::file_step> steps;
  steps.push_back(llb::mkdir_step("/cache", static_cast<int>(m.mode.value_or(default_cache_mode)), false,
                                  llb::chown_option(m.uid.value_or(0), m.gid.value_or(0)), std::nullopt));
  return llb::file(graph_, base, std::move(steps), std::move(info));
}

status converter::add_secret(stage_state& s, const run_mount& m, const run_instruction& i,
                             llb::exec_spec& spec) {
  auto id = m.source.empty() ? m.id : m.source;
  if (id.empty()) {
    if (m.target.empty()) return invalid("one of source, target required");
    id = path_base(m.target);
  }
  s.used.secrets.try_emplace(id, required_use{m.required, i.location});
  llb::secret_spec secret;
  secret.id = id;
  if (!m.target.empty()) secret.target = m.target;
  else if (!m.env) secret.target = "/run/secrets/" + path_base(id);
  secret.optional = !m.required;
  secret.env = m.env;
  secret.uid = m.uid.value_or(0);
  secret.gid = m.gid.value_or(0);
  secret.mode = m.mode.value_or(default_secret_mode);
  spec.secrets.push_back(std::move(secret));
  return {};
}

status converter::add_ssh(stage_state& s, const run_mount& m, const run_instruction& i,
                          llb::exec_spec& spec) {
  if (!m.source.empty()) return invalid("ssh does not support source");
  s.used.ssh.try_emplace(m.id.empty() ? "default" : m.id, required_use{m.required, i.location});
  llb::ssh_spec ssh;
  ssh.id = m.id;
  ssh.target = m.target;
  ssh.optional = !m.required;
  ssh.uid = m.uid.value_or(0);
  ssh.gid = m.gid.value_or(0);
  ssh.mode = m.mode.value_or(default_ssh_mode);
  spec.ssh.push_back(std::move(ssh));
  return {};
}

status converter::run_mounts(stage_state& s, const run_instruction& i,
                             const std::vector<stage_state*>& sources, llb::exec_spec& spec) {
  for (std::size_t k = 0; k < i.mounts.size(); ++k) {
    const auto& m = i.mounts[k];
    bool from_context = m.from.empty() && m.type != mount_type::cache;
    llb::output source = {context_, 0};
    if (!from_context) {
      if (!sources[k]->dispatched)
        return invalid("cannot mount from stage " + quote(m.from) + " to " + quote(m.target) +
                       ", stage needs to be defined before current command");
      source = sources[k]->state.out;
    }
    if (m.type == mount_type::secret) {
      KILN_CHECK(add_secret(s, m, i, spec));
      continue;
    }
    if (m.type == mount_type::ssh) {
      KILN_CHECK(add_ssh(s, m, i, spec));
      continue;
    }
    llb::mount_spec mount;
    mount.readonly = m.readonly;
    mount.no_output = !m.readonly && m.type == mount_type::bind;
    if (m.type == mount_type::tmpfs) {
      source = {};
      mount.tmpfs = true;
      mount.tmpfs_size = m.size_limit;
    }
    if (m.type == mount_type::cache) {
      if (m.sharing == "private") mount.sharing = pb::CacheSharingOpt::PRIVATE;
      if (m.sharing == "locked") mount.sharing = pb::CacheSharingOpt::LOCKED;
      mount.cache_id = options_.cache_namespace + "/" + (m.id.empty() ? clean_path(m.target) : m.id);
    }
    mount.target = m.target.starts_with('/') ? m.target : clean_path("/" + s.state.dir + "/" + m.target);
    if (mount.target == "/") return invalid("invalid mount target " + quote(mount.target));
    auto selector = path_join("/", m.source);
    if (selector != "/") {
      mount.selector = selector;
    } else if (m.uid || m.gid || m.mode) {
      source = cache_directory(m, source);
      mount.selector = "/cache";
    }
    mount.source = source;
    spec.mounts.push_back(std::move(mount));
    (from_context ? s.context_paths : *sources[k]->paths).insert(selector);
  }
  return {};
}

status converter::run_command(stage_state& s, const run_instruction& i,
                              const std::vector<stage_state*>& sources) {
  s.paths->insert("/");  // a command may read any file
  llb::exec_spec spec;
  auto label = i.code;
  KILN_TRY(auto args, run_arguments(s, i, spec, label));
  spec.args = args;
  spec.env = s.state.env;
  for (const auto& [key, value] : spec.env.entries()) environment_size_ += key.size() + value.size();
  if (environment_size_ > configs::dockerfile_max_environment)
    return invalid("the environment of all commands together is too large");
  spec.cwd = s.state.dir;
  spec.user = s.state.user;
  spec.hostname = s.state.hostname;
  spec.network = s.state.network;
  spec.proxy = proxy_;
  KILN_CHECK(run_mounts(s, i, sources, spec));
  if (i.security == "insecure") spec.security = pb::SecurityMode::INSECURE;
  if (i.network == "none") spec.network = pb::NetMode::NONE;
  if (i.network == "host") spec.network = pb::NetMode::HOST;
  spec.ulimits = options_.ulimits;
  for (const auto& device : i.devices) {
    auto& out = spec.devices.emplace_back();
    out.set_name(device.name);
    out.set_optional(!device.required);
  }
  spec.extra_hosts = options_.extra_hosts;
  if (options_.shm_size > 0) {
    llb::mount_spec shm;
    shm.target = "/dev/shm";
    shm.tmpfs = true;
    shm.tmpfs_size = options_.shm_size;
    spec.mounts.push_back(std::move(shm));
  }
  spec.cgroup_parent = options_.cgroup_parent;

  auto words = words_;
  words.raw_quotes = words.skip_unset = true;
  list_environment env(s.state.env);
  std::set<std::string> secrets;
  for (const auto& m : i.mounts)
    if (m.type == mount_type::secret && m.env) secrets.insert(*m.env);
  auto text = expanded_label(words, label, masked_environment(env, std::move(secrets)));
  llb::op_info info;
  info.command(i.code);
  info.name(prefix(s, uppercase_keyword(text), s.state.platform, env));
  info.ignore_cache = s.ignore_cache;
  info.resources = options_.resources;
  info.platform = s.state.platform;
  info.locations = locations(i.location);
  s.state = s.state.with(llb::exec(graph_, s.state.out, std::move(spec), std::move(info)));
  commit(s, "RUN " + run_history(args, s, env.list()), true, true);
  return {};
}

}  // namespace kiln::dockerfile
