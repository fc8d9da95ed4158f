// The exec operation: mount order, inputs, output numbers, caps.
#include <algorithm>
#include <numeric>

#include "frontends/llb/ops.hpp"

namespace kiln::llb {

namespace {

class exec_vertex final : public vertex {
 public:
  exec_vertex(op_info info, exec_spec spec)
      : vertex(with_caps(std::move(info), spec)), spec_(std::move(spec)) {
    order_.resize(spec_.mounts.size());
    std::iota(order_.begin(), order_.end(), 0);
    std::stable_sort(order_.begin(), order_.end(),
                     [&](int a, int b) { return spec_.mounts[a].target < spec_.mounts[b].target; });
  }

  std::vector<output> inputs() const override {
    std::vector<output> out;
    for (auto i : order_) {
      auto real = resolve(spec_.mounts[i].source);
      if (real && std::find(out.begin(), out.end(), real) == out.end()) out.push_back(real);
    }
    return out;
  }

  std::int64_t output_index(int slot) const override {
    std::int64_t index = 0;
    for (auto i : order_) {
      if (!has_output(spec_.mounts[i])) continue;
      if (i == slot) return index;
      ++index;
    }
    return 0;
  }

  // A read-only mount passes its source through.
  output forward(int slot) const override {
    const auto& m = spec_.mounts[slot];
    return m.readonly ? m.source : output{this, slot};
  }

  result<std::string> encode(const encoder& e) const override {
    if (spec_.args.empty()) return make_error(errc::invalid_argument, "arguments are required");
    if (spec_.cwd.empty()) return make_error(errc::invalid_argument, "working directory is required");
    pb::Op op;
    op.mutable_constraints();
    to_proto(info().platform ? *info().platform : e.options().platform, *op.mutable_platform());
    auto& exec = *op.mutable_exec();
    write_meta(*exec.mutable_meta());
    exec.set_network(spec_.network);
    exec.set_security(spec_.security);
    std::int64_t next_output = 0;
    for (auto i : order_) {
      const auto& m = spec_.mounts[i];
      auto& mount = *exec.add_mounts();
      mount.set_input(-1);
      if (resolve(m.source)) {
        if (m.tmpfs) return make_error(errc::invalid_argument, "tmpfs mounts must use scratch");
        mount.set_input(input_index(op, e.input_of(m.source)));
      }
      mount.set_dest(m.target);
      mount.set_readonly(m.readonly);
      mount.set_selector(m.selector);
      mount.set_output(has_output(m) ? next_output++ : -1);
      if (!m.cache_id.empty()) {
        mount.set_mounttype(pb::MountType::CACHE);
        mount.mutable_cacheopt()->set_id(m.cache_id);
        mount.mutable_cacheopt()->set_sharing(m.sharing);
      }
      if (m.tmpfs) {
        mount.set_mounttype(pb::MountType::TMPFS);
        mount.mutable_tmpfsopt()->set_size(m.tmpfs_size);
      }
    }
    write_secrets(exec);
    for (const auto& device : spec_.devices) *exec.add_cdidevices() = device;
    return op_bytes(std::move(op));
  }

 private:
  static bool has_output(const mount_spec& m) {
    return !m.no_output && !m.readonly && m.cache_id.empty() && !m.tmpfs;
  }

  static std::int64_t input_index(pb::Op& op, const pb::Input& input) {
    for (int i = 0; i < op.inputs_size(); ++i)
      if (op.inputs(i).digest() == input.digest() && op.inputs(i).index() == input.index()) return i;
    *op.add_inputs() = input;
    return op.inputs_size() - 1;
  }

  static op_info with_caps(op_info info, const exec_spec& spec) {
    auto add = [&](const char* cap) { info.caps.insert(cap); };
    add("exec.meta.base");
    add("exec.meta.setsdefaultpath");
    if (!spec.ulimits.empty()) add("exec.meta.ulimit");
    if (info.resources) add("exec.meta.linux.resources");
    if (spec.network != pb::NetMode::UNSET) add("exec.meta.network");
    if (spec.security == pb::SecurityMode::INSECURE) add("exec.meta.security");
    if (spec.proxy) add("exec.meta.proxyenv");
    for (const auto& m : spec.mounts) {
      if (!m.selector.empty()) add("exec.mount.selector");
      if (!m.cache_id.empty()) {
        add("exec.mount.cache");
        add("exec.mount.cache.sharing");
      } else if (m.tmpfs) {
        add("exec.mount.tmpfs");
        if (m.tmpfs_size > 0) add("exec.mount.tmpfs.size");
      } else if (m.source) {
        add("exec.mount.bind");
      }
    }
    if (!spec.secrets.empty()) add("exec.mount.secret");
    for (const auto& s : spec.secrets)
      if (s.env) add("exec.secretenv");
    if (!spec.ssh.empty()) add("exec.mount.ssh");
    if (!spec.devices.empty()) add("exec.meta.cdi");
    return info;
  }

  static std::string ssh_target(const ssh_spec& s, std::size_t index) {
    return s.target.empty() ? "/run/buildkit/ssh_agent." + std::to_string(index) : s.target;
  }

  void write_meta(pb::Meta& meta) const {
    for (const auto& arg : spec_.args) meta.add_args(arg);
    auto env = spec_.env;
    if (!spec_.ssh.empty() && !env.get("SSH_AUTH_SOCK"))
      env.set("SSH_AUTH_SOCK", ssh_target(spec_.ssh[0], 0));
    for (const auto& [key, value] : env.entries()) meta.add_env(key + "=" + value);
    meta.set_cwd(spec_.cwd);
    meta.set_user(spec_.user);
    meta.set_hostname(spec_.hostname);
    meta.set_cgroupparent(spec_.cgroup_parent);
    meta.set_removemountstubsrecursive(true);
    for (const auto& [host, ip] : spec_.extra_hosts) {
      auto& entry = *meta.add_extrahosts();
      entry.set_host(host);
      entry.set_ip(ip);
    }
    for (const auto& limit : spec_.ulimits) *meta.add_ulimit() = limit;
    if (spec_.proxy) *meta.mutable_proxy_env() = *spec_.proxy;
  }

  void write_secrets(pb::ExecOp& exec) const {
    for (const auto& s : spec_.secrets) {
      if (s.env) {
        auto& env = *exec.add_secretenv();
        env.set_id(s.id);
        env.set_name(*s.env);
        env.set_optional(s.optional);
      }
      if (!s.target) continue;
      auto& mount = *exec.add_mounts();
      mount.set_input(-1);
      mount.set_dest(*s.target);
      mount.set_mounttype(pb::MountType::SECRET);
      auto& option = *mount.mutable_secretopt();
      option.set_id(s.id);
      option.set_uid(s.uid);
      option.set_gid(s.gid);
      option.set_mode(s.mode);
      option.set_optional(s.optional);
    }
    for (std::size_t i = 0; i < spec_.ssh.size(); ++i) {
      const auto& s = spec_.ssh[i];
      auto& mount = *exec.add_mounts();
      mount.set_input(-1);
      mount.set_dest(ssh_target(s, i));
      mount.set_mounttype(pb::MountType::SSH);
      auto& option = *mount.mutable_sshopt();
      option.set_id(s.id);
      option.set_uid(s.uid);
      option.set_gid(s.gid);
      option.set_mode(s.mode);
      option.set_optional(s.optional);
    }
  }

  exec_spec spec_;  // mounts[0] is the root
  std::vector<int> order_;
};

}  // namespace

output exec(graph& g, output root, exec_spec spec, op_info info) {
  mount_spec root_mount;
  root_mount.target = "/";
  root_mount.source = root;
  spec.mounts.insert(spec.mounts.begin(), std::move(root_mount));
  return {g.make<exec_vertex>(std::move(info), std::move(spec)), 0};
}

}  // namespace kiln::llb
