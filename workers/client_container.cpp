#include "workers/client_container.hpp"

#include <arpa/inet.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <map>
#include <mutex>

#include "base/digest.hpp"
#include "base/slash_path.hpp"
#include "configs/containers.hpp"
#include "configs/executor.hpp"
#include "messages/outside_fields.hpp"
#include "workers/executor/runtime_process.hpp"
#include "workers/ops/client_secrets.hpp"
#include "workers/ops/exec_mounts.hpp"
#include "workers/proxy/step_network.hpp"
#include "workers/ref_files.hpp"
#include "workers/worker_resources.hpp"

namespace kiln::workers {

namespace {

namespace cfg = configs::containers;

constexpr std::int64_t none = -1;  // no input, no output

bool defines(const std::vector<std::string>& env, std::string_view name) {
  return std::any_of(env.begin(), env.end(), [&](const std::string& e) {
    return e.size() > name.size() && e.starts_with(name) && e[name.size()] == '=';
  });
}

result<std::vector<std::pair<std::string, std::string>>> extra_hosts(const gw::NewContainerRequest& request) {
  std::vector<std::pair<std::string, std::string>> hosts;
  for (const auto& h : request.extrahosts()) {
    std::array<unsigned char, 16> address{};
    if (::inet_pton(AF_INET, h.ip().c_str(), address.data()) != 1 &&
        ::inet_pton(AF_INET6, h.ip().c_str(), address.data()) != 1)
      return make_error(errc::invalid_argument, "failed to parse IP " + h.ip());
    hosts.emplace_back(h.host(), h.ip());
  }
  return hosts;
}

class container final : public client_container {
 public:
  container(worker_resources& resources, const gw::NewContainerRequest& request,
            const container_grants& grants, job_context job)
      : resources_(resources),
        request_(request),
        grants_(grants),
        job_(std::move(job)),
        mounts_(resources, job_) {}

  status prepare(std::span<const store::ref> refs) {
    KILN_CHECK(check_fields(request_));
    pb::ExecOp op;
    std::vector<store::ref> inputs;
    for (int i = 0; i < request_.mounts_size(); ++i) {
      auto* m = op.add_mounts();
      *m = request_.mounts(i);
      m->set_output(none);
      m->set_input(none);
      if (refs[static_cast<std::size_t>(i)]) {
        m->set_input(static_cast<std::int64_t>(inputs.size()));
        inputs.push_back(refs[static_cast<std::size_t>(i)]);
      }
    }
    op.mutable_meta()->add_args("container " + request_.containerid());
    KILN_TRY(hosts_, extra_hosts(request_));
    return mounts_.prepare(op, inputs);
  }

  status add_document(const std::string& directory, const std::string& name,
                      std::string_view bytes) override {
    return mounts_.add_document(directory, name, bytes);
  }

  result<exit_state> run(const gw::InitMessage& init, const process_io& io, std::stop_token stop) override {
    runtime_process::ending ending(io);
    KILN_CHECK(check_fields(init));
    if (request_.network() == pb::HOST && !grants_.network_host)
      return make_error(errc::permission_denied, "network.host is not allowed");
    if (init.security() == pb::INSECURE && !grants_.security_insecure)
      return make_error(errc::permission_denied, "security.insecure is not allowed");
    KILN_TRY(auto process, process_of(init));
    if (started_.exchange(true)) return resources_.executor->exec(id_, process, io, stop);
    container_spec spec;
    spec.id = id_;
    spec.rootfs = mounts_.rootfs();
    spec.readonly_rootfs = mounts_.readonly_rootfs();
    spec.mounts = mounts_.mounts();
    spec.process = std::move(process);
    spec.hostname = request_.hostname();
    spec.extra_hosts = hosts_;
    spec.network = request_.network();
    proxy::step_rules rules{grants_.may, nullptr};
    if (grants_.proxy && request_.network() != pb::NONE) spec.proxy = &rules;
    spec.security = init.security();
    spec.ulimits.assign(init.meta().ulimit().begin(), init.meta().ulimit().end());
    spec.cgroup_parent = init.meta().cgroupparent();
    spec.remove_mount_stubs_recursive = init.meta().removemountstubsrecursive();
    return resources_.executor->run(spec, io, stop);
  }

  result<gw::ReadFileResponse> read_file(const gw::ReadFileRequest& request) override {
    KILN_TRY(auto root, mount_point(request.mountindex()));
    return workers::read_file(root, request, cfg::file_bytes_max);
  }
  result<gw::ReadDirResponse> read_dir(const gw::ReadDirRequest& request) override {
    KILN_TRY(auto root, mount_point(request.mountindex()));
    return workers::read_dir(root, request);
  }
  result<gw::StatFileResponse> stat_file(const gw::StatFileRequest& request) override {
    KILN_TRY(auto root, mount_point(request.mountindex()));
    return workers::stat_file(root, request);
  }

 private:
  result<process_spec> process_of(const gw::InitMessage& init) {
    const auto& meta = init.meta();
    process_spec process;
    process.args.assign(meta.args().begin(), meta.args().end());
    if (process.args.empty()) return make_error(errc::invalid_argument, "process has no arguments");
    process.env.assign(meta.env().begin(), meta.env().end());
    process.cwd = meta.cwd().empty() ? "/" : meta.cwd();
    process.user = meta.user();
    process.tty = init.tty();
    if (!defines(process.env, "PATH"))
      process.env.push_back(std::string("PATH=") + configs::default_path_of(request_.platform().os()));
    if (process.tty && !defines(process.env, "TERM")) process.env.emplace_back("TERM=xterm");
    for (const auto& secret : init.secretenv()) {
      if (secret.id().empty())
        return make_error(errc::invalid_argument,
                          "secret ID missing for \"" + secret.name() + "\" environment variable");
      auto value = find_secret(secret.id(), job_);
      if (value.ok() && *value) {
        process.env.push_back(secret.name() + "=" + **value);
      } else if (secret.optional()) {
        process.env.push_back(secret.name() + "=");
      } else if (!value.ok()) {
        return std::move(value).error();
      } else {
        return make_error(errc::not_found, "secret " + secret.id() + ": not found");
      }
    }
    return process;
  }

  /// Where the files of a mount are on this host.
  result<std::filesystem::path> mount_point(int index) const {
    if (index < 0 || index >= request_.mounts_size())
      return make_error(errc::unknown, "mount index " + std::to_string(index) + " is out of bounds (" +
                                           std::to_string(request_.mounts_size()) + " available)");
    const auto& dest = request_.mounts(index).dest();
    if (dest == "/") return mounts_.rootfs();
    auto wanted = clean_absolute(dest.starts_with('/') ? dest : "/" + dest);
    for (const auto& m : mounts_.mounts())
      if (m.destination == wanted && m.type != "tmpfs") return std::filesystem::path(m.source);
    return make_error(errc::unknown, "mountable " + std::to_string(index) + " not found");
  }

  worker_resources& resources_;
  const gw::NewContainerRequest request_;
  const container_grants grants_;
  const job_context job_;
  const std::string id_ = new_id();  // the client's own name is no name for a cgroup
  std::vector<std::pair<std::string, std::string>> hosts_;
  exec_mounts mounts_;
  std::atomic<bool> started_{false};
};

}  // namespace

result<std::shared_ptr<client_container>> make_client_container(worker_resources& resources,
                                                                const gw::NewContainerRequest& request,
                                                                std::span<const store::ref> refs,
                                                                const container_grants& grants,
                                                                job_context job) {
  auto out = std::make_shared<container>(resources, request, grants, std::move(job));
  KILN_CHECK(out->prepare(refs));
  return std::shared_ptr<client_container>(std::move(out));
}

std::optional<int> signal_number(std::string_view name) {
  static const std::map<std::string_view, int> numbers = {
      {"ABRT", SIGABRT},     {"ALRM", SIGALRM},   {"BUS", SIGBUS},   {"CHLD", SIGCHLD}, {"CLD", SIGCHLD},
      {"CONT", SIGCONT},     {"FPE", SIGFPE},     {"HUP", SIGHUP},   {"ILL", SIGILL},   {"INT", SIGINT},
      {"IO", SIGIO},         {"IOT", SIGIOT},     {"KILL", SIGKILL}, {"PIPE", SIGPIPE}, {"POLL", SIGPOLL},
      {"PROF", SIGPROF},     {"PWR", SIGPWR},     {"QUIT", SIGQUIT}, {"SEGV", SIGSEGV}, {"STKFLT", SIGSTKFLT},
      {"STOP", SIGSTOP},     {"SYS", SIGSYS},     {"TERM", SIGTERM}, {"TRAP", SIGTRAP}, {"TSTP", SIGTSTP},
      {"TTIN", SIGTTIN},     {"TTOU", SIGTTOU},   {"URG", SIGURG},   {"USR1", SIGUSR1}, {"USR2", SIGUSR2},
      {"VTALRM", SIGVTALRM}, {"WINCH", SIGWINCH}, {"XCPU", SIGXCPU}, {"XFSZ", SIGXFSZ}};
  if (name.starts_with("SIG")) name.remove_prefix(3);
  if (auto it = numbers.find(name); it != numbers.end()) return it->second;
  // RTMIN, RTMIN+n, RTMAX, RTMAX-n.
  bool from_min = name.starts_with("RTMIN");
  if (!from_min && !name.starts_with("RTMAX")) return std::nullopt;
  auto rest = name.substr(5);
  if (rest.empty()) return from_min ? SIGRTMIN : SIGRTMAX;
  if (rest.front() != (from_min ? '+' : '-')) return std::nullopt;
  int n = 0;
  auto [end, err] = std::from_chars(rest.data() + 1, rest.data() + rest.size(), n);
  if (err != std::errc{} || end != rest.data() + rest.size() || n < 0) return std::nullopt;
  int number = from_min ? SIGRTMIN + n : SIGRTMAX - n;
  if (number < SIGRTMIN || number > SIGRTMAX) return std::nullopt;
  return number;
}

}  // namespace kiln::workers
