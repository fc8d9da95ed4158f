#include "client/build/build_command.hpp"

#include <csignal>
#include <cstdio>
#include <filesystem>

#include <sys/stat.h>

#include <fmt/format.h>

#include "base/json_text.hpp"
#include "base/plain_text.hpp"
#include "client/build/cache_metrics.hpp"
#include "client/build/definition.hpp"
#include "client/build/local_stores.hpp"
#include "client/build/metadata_file.hpp"
#include "client/build/source_policy_file.hpp"
#include "client/build/request.hpp"
#include "client/build/solve.hpp"
#include "client/connect/connect.hpp"
#include "client/fd.hpp"
#include "client/process.hpp"
#include "client/progress/display.hpp"
#include "client/progress/status_json.hpp"
#include "client/session/auth.hpp"
#include "client/session/content.hpp"
#include "client/session/file_send.hpp"
#include "client/session/file_sync.hpp"
#include "client/session/secrets.hpp"
#include "client/session/ssh.hpp"

namespace kiln::client {
namespace {

namespace control = moby::buildkit::v1;

constexpr std::size_t definition_bytes_max = 256 << 20;

// Everything a build holds open on the client's side.
struct build_state {
  build_request request;
  std::optional<pb::Definition> definition;
  local_stores stores;
  std::map<int, export_target> targets;
  std::optional<child_process> docker_load;
  std::string ref = new_id();
};

result<control::SolveRequest> make_solve_request(const build_state& state, const build_flags& flags) {
  const auto& r = state.request;
  control::SolveRequest out;
  out.set_ref(state.ref);
  out.set_frontend(r.frontend);
  if (state.definition) *out.mutable_definition() = *state.definition;
  for (const auto& [key, value] : r.attrs) (*out.mutable_frontendattrs())[key] = value;
  for (std::size_t i = 0; i < r.exports.size(); ++i) {
    auto* e = out.add_exporters();
    e->set_type(r.exports[i].type);
    for (const auto& [key, value] : r.exports[i].attrs) (*e->mutable_attrs())[key] = value;
    if (i != 0) continue;
    // Daemons before multiple exporters read the first one here.
    out.set_exporterdeprecated(e->type());
    *out.mutable_exporterattrsdeprecated() = e->attrs();
  }
  auto add = [](auto* entries, const std::vector<cache_request>& caches) {
    for (const auto& c : caches) {
      auto* e = entries->Add();
      e->set_type(c.type);
      for (const auto& [key, value] : c.attrs) (*e->mutable_attrs())[key] = value;
    }
  };
  add(out.mutable_cache()->mutable_exports(), r.cache_exports);
  add(out.mutable_cache()->mutable_imports(), state.stores.usable_imports);
  if (!r.frontend.empty() && !state.stores.usable_imports.empty())
    (*out.mutable_frontendattrs())["cache-imports"] = cache_imports_json(state.stores.usable_imports);
  for (const auto& e : r.entitlements) out.add_entitlements(e);
  out.set_proxynetwork(r.proxy_network);
  KILN_TRY(auto policy, source_policy_of(flags.source_policy_file));
  if (policy) *out.mutable_sourcepolicy() = *std::move(policy);
  return out;
}

status read_definition(build_state& state) {
  if (!state.request.frontend.empty()) return {};
  if (::isatty(STDIN_FILENO))
    return make_error(
        errc::invalid_argument,
        "please specify --frontend or pipe LLB definition to stdin, or name a directory: kilnctl build .");
  KILN_TRY(auto bytes, read_all(STDIN_FILENO, definition_bytes_max, "stdin"));
  KILN_TRY(state.definition, parse_definition(bytes));
  if (state.request.no_cache) KILN_CHECK(ignore_cache(*state.definition));
  return {};
}

status check_directories(const string_map& directories, std::string_view flag) {
  for (const auto& [name, path] : directories) {
    struct stat st {};
    if (::stat(path.c_str(), &st) != 0) return errno_error(errno, fmt::format("{} {}: {}", flag, name, path));
    if (!S_ISDIR(st.st_mode))
      return make_error(errc::invalid_argument,
                        fmt::format("{} {}: {} is not a directory", flag, name, path));
  }
  return {};
}

status open_targets(build_state& state) {
  using where = export_request::destination;
  auto stream = [](int fd) { return std::make_shared<output_file>(output_file::stream(unique_fd(fd))); };
  for (std::size_t i = 0; i < state.request.exports.size(); ++i) {
    const auto& e = state.request.exports[i];
    auto id = static_cast<int>(i);
    switch (e.where) {
      case where::none: break;
      case where::store: break;  // through the content service
      case where::directory: {
        auto mode = e.attrs.find("mode");
        state.targets[id] = {.what = export_target::kind::directory,
                             .file = {},
                             .directory = e.path,
                             .delete_extra = mode != e.attrs.end() && mode->second == "delete"};
        break;
      }
      case where::file: {
        auto file = output_file::open(e.path);
        if (!file.ok()) return std::move(file).error().with_context("--output");
        state.targets[id] = {.file = std::make_shared<output_file>(*std::move(file)), .directory = {}};
        break;
      }
      case where::standard_output:
        state.targets[id] = {.file = stream(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3)), .directory = {}};
        break;
      case where::docker_load: {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0) return errno_error(errno, "pipe");
        unique_fd input(ends[0]), output(ends[1]);
        auto child = child_process::start(
            {.argv = {"docker", "load"}, .input = input.get(), .output = STDERR_FILENO, .environment = {}});
        if (!child.ok()) return std::move(child).error().with_context("--load");
        state.docker_load = *std::move(child);
        state.targets[id] = {.file = stream(output.release()), .directory = {}};
        break;
      }
    }
  }
  return {};
}

status add_services(session_tunnel& session, const build_state& state,
                    std::function<void(solve_status)> log) {
  const auto& r = state.request;
  auth_options auth;
  auth.config_directory = docker_config_directory();
  auto config = load_docker_config(auth.config_directory);
  if (config.ok()) auth.config = *std::move(config);
  else fmt::print(stderr, "WARNING: Error loading config file: {}\n", printable(config.error().message));
  auth.tls = r.registry_tls;
  auth.log = std::move(log);
  session.add(make_auth_service(std::move(auth)));

  auto locals = r.locals;
  if (state.definition) {
    KILN_TRY(locals, used_locals(*state.definition, r.locals));
  }
  if (!locals.empty()) session.add(make_file_sync_service(std::move(locals)));
  if (!r.secrets.empty()) {
    KILN_TRY(auto secrets, resolve_secrets(r.secrets));
    session.add(make_secrets_service(std::move(secrets)));
  }
  if (!r.ssh.empty()) {
    KILN_TRY(auto ssh, make_ssh_service(r.ssh));
    session.add(std::move(ssh));
  }
  if (!state.stores.by_id.empty()) session.add(make_content_service(state.stores.by_id));
  if (!state.targets.empty()) session.add(make_file_send_service(state.targets));
  return {};
}

// Everything that gets a copy of the progress.
class progress_fan {
 public:
  progress_fan(std::unique_ptr<display> d, unique_fd trace, cache_metrics* metrics)
      : runner_(std::move(d)), trace_(std::move(trace)), metrics_(metrics) {}
  void push(solve_status status) {
    {
      std::lock_guard lock(mutex_);
      if (trace_) (void)write_all(trace_.get(), to_json_line(status));
      if (metrics_) metrics_->update(status);
    }
    runner_.push(std::move(status));
  }
  void finish() { runner_.finish(); }

 private:
  display_runner runner_;
  std::mutex mutex_;
  unique_fd trace_;
  cache_metrics* metrics_;
};

status write_results(const build_state& state, const build_flags& flags, const solve_outcome& outcome) {
  if (!flags.metadata_file.empty())
    KILN_CHECK(output_file::write_whole(flags.metadata_file, render_metadata(outcome.exporter_response)));
  auto value = [&](const char* key) {
    auto it = outcome.exporter_response.find(key);
    return it == outcome.exporter_response.end() ? std::string() : it->second;
  };
  auto image_id = value("containerimage.config.digest");
  if (image_id.empty()) image_id = value("containerimage.digest");
  if (!flags.iid_file.empty()) KILN_CHECK(output_file::write_whole(flags.iid_file, image_id));
  if (flags.quiet && !image_id.empty()) KILN_CHECK(write_all(STDOUT_FILENO, image_id + "\n"));
  if (auto text = outcome.sub_request.find("result.txt"); text != outcome.sub_request.end())
    KILN_CHECK(write_all(STDOUT_FILENO, text->second));
  else
    for (const auto& [key, bytes] : outcome.sub_request)
      if (key.starts_with("result.")) KILN_CHECK(write_all(STDOUT_FILENO, key + "\n" + bytes + "\n"));
  return update_store_indexes(state.stores, state.request, outcome.exporter_response);
}

status write_metrics(const std::string& where, const cache_metrics& metrics, nanoseconds_t started) {
  auto text = metrics.render((wall_clock() - started) / 1'000'000);
  if (where == "stdout") return write_all(STDOUT_FILENO, text);
  if (where == "stderr") return write_all(STDERR_FILENO, text);
  unique_fd fd(::open(where.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (!fd) return errno_error(errno, "--debug-json-cache-metrics: open " + where);
  return write_all(fd.get(), text);
}

}  // namespace

status run_build(const global_flags& global, const build_flags& flags, interrupt_handler& interrupts) {
  auto started = wall_clock();
  build_state state;
  KILN_TRY(state.request, make_build_request(flags, ::isatty(STDOUT_FILENO) == 1));
  KILN_TRY(auto mode, parse_progress_mode(flags.quiet ? "quiet" : flags.progress));
  KILN_CHECK(check_directories(state.request.locals, "--local"));
  KILN_CHECK(read_definition(state));
  KILN_TRY(state.stores, open_local_stores(state.request));
  KILN_TRY(auto request, make_solve_request(state, flags));

  unique_fd trace;
  if (!flags.trace_file.empty()) {
    trace = unique_fd(::open(flags.trace_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    if (!trace) return errno_error(errno, "--trace: open " + flags.trace_file);
  }
  KILN_TRY(auto connection, connect_daemon(global, without_daemon::start, interrupts));
  KILN_CHECK(open_targets(state));
  KILN_TRY(auto shown, make_display(mode, STDERR_FILENO));
  cache_metrics metrics;
  session_tunnel session;
  result<solve_outcome> outcome = make_error(errc::internal, "not run");
  {
    progress_fan progress(std::move(shown), std::move(trace),
                          flags.cache_metrics.empty() ? nullptr : &metrics);
    auto push = [&](solve_status s) { progress.push(std::move(s)); };
    KILN_CHECK(add_services(session, state, push));
    outcome = run_solve({.channel = connection.channel,
                         .request = std::move(request),
                         .session = &session,
                         .progress = push,
                         .stop = interrupts.token()});
    progress.finish();
  }
  if (outcome.ok())
    for (auto& [id, target] : state.targets)
      if (target.file) KILN_CHECK(target.file->commit());
  state.targets.clear();
  if (!flags.ref_file.empty()) KILN_CHECK(output_file::write_whole(flags.ref_file, state.ref));
  if (!flags.cache_metrics.empty()) KILN_CHECK(write_metrics(flags.cache_metrics, metrics, started));
  connection.channel.reset();
  if (connection.embedded) connection.embedded->stop();
  interrupts.on_kill({});
  if (!outcome.ok()) return std::move(outcome).error();
  if (state.docker_load)
    if (int code = state.docker_load->wait(std::nullopt).value_or(0); code != 0)
      return make_error(errc::unknown, "--load: docker load failed");
  return write_results(state, flags, *outcome);
}

}  // namespace kiln::client
