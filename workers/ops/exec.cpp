// The exec op: one process in a container over its inputs.
// Source: solver/llbsolver/ops/exec.go.
#include <algorithm>
#include <array>
#include <cstdlib>

#include <arpa/inet.h>
#include <sys/mount.h>

#include "base/files.hpp"
#include "base/quoting.hpp"
#include "configs/executor.hpp"
#include "messages/proxy_capture.hpp"
#include "workers/executor/log_limiter.hpp"
#include "workers/ops/command_text.hpp"
#include "workers/ops/exec_mounts.hpp"
#include "workers/ops/ops.hpp"
#include "workers/platforms/emulator.hpp"
#include "workers/proxy/step_network.hpp"

namespace kiln::workers {

namespace {

constexpr const char* exit_detail_type = "github.com/moby/buildkit/gatewayapi.ExitMessage+json";

bool defines(const std::vector<std::string>& env, std::string_view name) {
  return std::any_of(env.begin(), env.end(), [&](const std::string& e) {
    return e.size() > name.size() && e.starts_with(name) && e[name.size()] == '=';
  });
}

void add_proxy(std::vector<std::string>& env, const pb::ProxyEnv& proxy) {
  auto add = [&](const char* upper, const char* lower, const std::string& value) {
    if (value.empty()) return;
    env.push_back(std::string(upper) + "=" + value);
    env.push_back(std::string(lower) + "=" + value);
  };
  add("HTTP_PROXY", "http_proxy", proxy.http_proxy());
  add("HTTPS_PROXY", "https_proxy", proxy.https_proxy());
  add("FTP_PROXY", "ftp_proxy", proxy.ftp_proxy());
  add("NO_PROXY", "no_proxy", proxy.no_proxy());
  add("ALL_PROXY", "all_proxy", proxy.all_proxy());
}

result<std::vector<std::string>> environment(const pb::ExecOp& op, const job_context& job) {
  std::vector<std::string> env(op.meta().env().begin(), op.meta().env().end());
  if (!defines(env, "PATH")) env.push_back(std::string("PATH=") + configs::default_path);
  for (const auto& secret : op.secretenv()) {
    if (secret.id().empty()) {
      return make_error(errc::invalid_argument,
                        "secret ID missing for " + quote(secret.name()) + " environment variable");
    }
    auto value = find_secret(secret.id(), job);
    if (value && *value) {
      env.push_back(secret.name() + "=" + **value);
      continue;
    }
    if (secret.optional() && !job.stop.stop_requested()) {
      env.push_back(secret.name() + "=");
      continue;
    }
    if (!value) return std::move(value).error();
    return make_error(errc::not_found, "secret " + secret.id() + ": not found");
  }
  if (op.meta().has_proxy_env()) add_proxy(env, op.meta().proxy_env());
  return env;
}

result<std::vector<std::pair<std::string, std::string>>> extra_hosts(const pb::Meta& meta) {
  std::vector<std::pair<std::string, std::string>> hosts;
  for (const auto& h : meta.extrahosts()) {
    std::array<unsigned char, 16> address{};
    if (::inet_pton(AF_INET, h.ip().c_str(), address.data()) != 1 &&
        ::inet_pton(AF_INET6, h.ip().c_str(), address.data()) != 1) {
      return make_error(errc::invalid_argument, "failed to parse IP " + h.ip());
    }
    hosts.emplace_back(h.host(), h.ip());
  }
  return hosts;
}

// Both streams of a step under BuildKit's limits.
class step_log {
 public:
  explicit step_log(progress_sink& sink) : sink_(sink) {}
  void write(int stream, std::string_view bytes) {
    std::string passed = limiter(stream).pass(bytes, log_limiter::clock::now());
    if (passed.empty()) return;
    sink_.log(stream, passed);
    // As upstream: what steps print, on the daemon's own streams, for whoever looks for a fault there.
    static const bool shown = [] {
      const char* wanted = std::getenv("BUILDKIT_DEBUG_EXEC_OUTPUT");
      return wanted != nullptr && std::string_view(wanted) == "1";
    }();
    if (shown) (void)write_all(stream, passed);
  }
  /// What was clipped last, for a step that failed.
  void flush() {
    for (int stream : {1, 2}) {
      std::string tail = limiter(stream).take_tail();
      if (!tail.empty()) sink_.log(stream, tail);
    }
  }

 private:
  log_limiter& limiter(int stream) { return stream == 1 ? out_ : err_; }
  progress_sink& sink_;
  log_limiter out_{log_limits::from_environment(), log_limiter::clock::now()};
  log_limiter err_{log_limits::from_environment(), log_limiter::clock::now()};
};

// A file of one step, which goes with it; in a file system of its own, for nothing in the state can be run.
class step_directory {
 public:
  explicit step_directory(const store::scratch_directory& scratch) : scratch_(scratch) {}

  result<std::filesystem::path> file(const char* name) {
    KILN_TRY(auto directory, scratch_.make("step"));
    KILN_TRY(mount_, private_mount::tmpfs(std::move(directory), MS_NOSUID | MS_NODEV, "mode=0711"));
    return mount_.path() / name;
  }

 private:
  const store::scratch_directory& scratch_;
  private_mount mount_;
};

class exec_handler final : public op_handler {
 public:
  explicit exec_handler(worker_resources& resources) : resources_(resources) {}

  result<solver::cache_map> cache_map(const op_request& request, int, const job_context&) override {
    return solver::cache_map_of(request.op, request.platform);
  }

  result<std::vector<store::ref>> run(const op_request& request, std::span<const store::ref> inputs,
                                      const job_context& job) override {
    const pb::ExecOp& op = request.op.exec();
    if (op.meta().args().empty()) return make_error(errc::invalid_argument, "exec has no arguments");
    exec_mounts mounts(resources_, job);
    auto done = run_in(mounts, request, inputs, job);
    if (!done) {
      if (request.left && !job.stop.stop_requested())
        *request.left = {true, inputs_of_mounts(op, inputs), mounts.abandon(op, inputs)};
      return std::move(done).error();
    }
    KILN_TRY(auto outputs, mounts.commit());
    if (request.proxied != nullptr && !request.proxied->captured.empty())
      KILN_CHECK(keep_capture(request, outputs));
    return outputs;
  }

 private:
  /// With the results, for builds that find them in the cache. Under the op's own digest: a step that changed
  /// nothing has its parent for a result.
  status keep_capture(const op_request& request, const std::vector<store::ref>& outputs) {
    KILN_TRY(auto map, solver::cache_map_of(request.op, request.platform));
    auto key = capture_key(map.op_digest.str());
    for (const auto& output : outputs)
      if (output) resources_.refs->values().post_of_record(output.id(), key, request.proxied->captured);
    return {};
  }

  status run_in(exec_mounts& mounts, const op_request& request, std::span<const store::ref> inputs,
                const job_context& job) {
    const pb::ExecOp& op = request.op.exec();
    const pb::Meta& meta = op.meta();
    KILN_CHECK(mounts.prepare(op, inputs));

    container_spec spec;
    spec.rootfs = mounts.rootfs();
    spec.readonly_rootfs = mounts.readonly_rootfs();
    spec.mounts = mounts.mounts();
    spec.process.args.assign(meta.args().begin(), meta.args().end());
    KILN_TRY(spec.process.env, environment(op, job));
    spec.process.cwd = meta.cwd();
    spec.process.user = meta.user();
    spec.hostname = meta.hostname();
    KILN_TRY(spec.extra_hosts, extra_hosts(meta));
    spec.network = op.network();
    spec.security = op.security();
    spec.ulimits.assign(meta.ulimit().begin(), meta.ulimit().end());
    spec.cgroup_parent = meta.cgroupparent();
    if (request.metadata.has_linux_resources()) spec.resources = request.metadata.linux_resources();
    KILN_TRY(spec.edits, device_edits(op));
    spec.remove_mount_stubs_recursive = meta.removemountstubsrecursive();

    step_directory own(resources_.refs->scratch());
    auto known = resources_.platforms->known();
    KILN_TRY(auto emulator, find_emulator(request.platform, known, emulator_directories()));
    if (emulator) KILN_CHECK(emulate(spec, *emulator, [&] { return own.file("emulator"); }));
    bool foreign = !emulator && !runs_among(known, request.platform);
    proxy::recorder record;
    proxy::step_rules rules;
    if (request.proxied != nullptr && op.network() != pb::NONE) {
      rules = {request.proxied->may, &record};
      spec.proxy = &rules;
    }

    step_log log(*job.progress);
    process_io io;
    io.output = [&](int stream, std::string_view bytes) { log.write(stream, bytes); };
    auto end = resources_.executor->run(spec, io, job.stop);
    if (end && request.usage) *request.usage = end->usage;
    if (spec.proxy != nullptr) {
      if (auto lines = record.summary(); !lines.empty()) log.write(2, lines);
      request.proxied->captured = to_text(record.captured());
    }
    status verdict = end ? outcome_of(op, *end) : status(unfinished(op, std::move(end).error()));
    if (!verdict) log.flush();
    if (!verdict && foreign && !job.stop.stop_requested()) explain_platform(request.platform, *job.progress);
    return verdict;
  }

  // Whoever sees a program fail to start may not think of what it was built for.
  void explain_platform(const platform& wanted, progress_sink& progress) const {
    auto why = resources_.platforms->why_not(wanted);
    if (!why.ok())
      progress.log(
          2, "note: " + why.error().message + "; neither is there a " + emulator_name(wanted) + " on PATH\n");
  }

  // A step that may have any device still says what it wants in its own words; others name what they were
  // granted.
  result<cdi::container_edits> device_edits(const pb::ExecOp& op) const {
    if (op.cdidevices().empty()) return cdi::container_edits{};
    std::vector<pb::CDIDevice> wanted(op.cdidevices().begin(), op.cdidevices().end());
    if (!resources_.devices) {
      // Only what is optional goes without.
      KILN_TRY(auto none, solver::find_devices({}, wanted));
      return cdi::container_edits{};
    }
    auto edits = resources_.devices->edits_of(wanted);
    if (!edits.ok()) return std::move(edits).error().with_context("CDI device injection failed");
    return edits;
  }

  static error unfinished(const pb::ExecOp& op, error why) {
    if (why.code == errc::cancelled) return why;
    return std::move(why).with_context("process " + quote(command_text(op.meta())) +
                                       " did not complete successfully");
  }

  static status outcome_of(const pb::ExecOp& op, const exit_state& end) {
    const auto& valid = op.meta().validexitcodes();
    if (valid.empty() ? end.code == 0 : std::find(valid.begin(), valid.end(), end.code) != valid.end())
      return {};
    std::string why = end.out_of_memory ? "cannot allocate memory" : "exit code: " + std::to_string(end.code);
    error e = unfinished(op, make_error(errc::unknown, why));
    e.details.push_back(
        {exit_detail_type, end.code == 0 ? "{}" : "{\"Code\":" + std::to_string(end.code) + "}"});
    return e;
  }

  worker_resources& resources_;
};

}  // namespace

std::shared_ptr<op_handler> make_exec_handler(worker_resources& resources) {
  return std::make_shared<exec_handler>(resources);
}

}  // namespace kiln::workers
