#include "gateway/bridge/frontend_runner.hpp"

#include <cerrno>

#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

#include "actors/ask_and_wait.hpp"
#include "actors/spawn_outside.hpp"
#include "actors/build/frontend_bridge.hpp"
#include "actors/build/frontend_view.hpp"
#include "base/thread.hpp"
#include "base/unique_fd.hpp"
#include "configs/gateway.hpp"
#include "gateway/bridge/stdio_server.hpp"

namespace kiln::gateway {

namespace {

/// Sends everything; false once the peer is gone.
bool send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    auto count = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(count));
  }
  return true;
}

/// What arrives at the socket goes to the container's standard input.
void feed(int fd, workers::process_control& control) {
  std::string buffer(configs::gateway::frontend_buffer_bytes, '\0');
  for (;;) {
    auto count = ::recv(fd, buffer.data(), buffer.size(), 0);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) break;
    if (!control.write_input({buffer.data(), static_cast<std::size_t>(count)})) break;
  }
  control.close_input();
}

class runner {
 public:
  explicit runner(frontend_runner_options options) : options_(std::move(options)) {}

  result<gw::Result> operator()(frontends::frontend_host& host,
                                const frontends::frontend_process& process) const {
    auto* bridge = dynamic_cast<actors::bridge_host*>(&host);
    if (!bridge) return make_error(errc::internal, "a frontend image needs a build to run in");
    auto build = caf::actor_cast<actors::build_impl>(bridge->channel()->build());
    KILN_TRY(auto container, make_container(build, process));
    KILN_CHECK(container->add_document(configs::gateway::frontend_metadata_directory,
                                       configs::gateway::frontend_metadata_file,
                                       process.definition.SerializeAsString()));

    auto returned = std::make_shared<actors::returned_result>();
    auto view = actors::spawn_outside(
        *options_.system, actors::frontend_view,
        actors::frontend_view_options{build, bridge->scope(), process.inputs, returned});
    auto finished = run(*container, view, process, host.stop_token());
    container.reset();
    caf::anon_send_exit(view, caf::exit_reason::user_shutdown);

    auto outcome = returned->get();
    // What the frontend said of its failure says more than how it ended.
    if (outcome && !outcome->ok()) return *std::move(outcome);
    if (!finished.ok()) return std::move(finished).error();
    if (!outcome) return make_error(errc::unknown, "no result for incomplete build");
    return *std::move(outcome);
  }

 private:
  result<std::shared_ptr<workers::client_container>> make_container(
      const actors::build_impl& build, const frontends::frontend_process& process) const {
    gw::NewContainerRequest request;
    request.set_containerid("frontend");
    auto& root = *request.add_mounts();
    root.set_dest("/");
    root.set_mounttype(pb::BIND);
    root.set_resultid(process.ref);
    if (process.no_network) request.set_network(pb::NONE);
    container_inputs inputs;
    inputs.refs = {process.ref};
    std::function<void(container_inputs&)> take = [&](container_inputs& lent) { inputs = std::move(lent); };
    KILN_CHECK(actors::ask_and_wait(*options_.system, build, caf::infinite, take, inputs));
    return options_.make_container(request, inputs);
  }

  status run(workers::client_container& container, const actors::frontend_view_impl& view,
             const frontends::frontend_process& process, std::stop_token stop) const {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0)
      return errno_error(errno, "socketpair");
    unique_fd ours(ends[0]);
    KILN_TRY(auto server,
             serve_on_fd(ends[1], *options_.system, caf::actor_cast<build_actor>(view), options_.containers));

    gw::InitMessage init;
    init.set_containerid("frontend");
    auto& meta = *init.mutable_meta();
    for (const auto& a : process.args) meta.add_args(a);
    for (const auto& e : process.env) meta.add_env(e);
    meta.set_cwd(process.cwd);
    meta.set_removemountstubsrecursive(true);

    workers::process_control control;
    workers::process_io io;
    io.control = &control;
    std::string complaint;
    io.output = [&](int stream, std::string_view bytes) {
      if (stream == 1) {
        send_all(ours.get(), bytes);
        return;
      }
      if (complaint.size() < configs::gateway::frontend_complaint_bytes) complaint += bytes;
    };
    KILN_TRY(auto feeder, thread::start("frontend-input", [&] { feed(ours.get(), control); }));
    auto end = container.run(init, io, stop);
    ::shutdown(ours.get(), SHUT_RDWR);
    feeder.join();
    server.reset();
    if (!complaint.empty()) spdlog::info("frontend {}: {}", process.args.front(), complaint);
    if (!end.ok()) return std::move(end).error();
    if (end->code == 0) return {};
    auto why = make_error(errc::unknown,
                          "frontend did not complete successfully: exit code: " + std::to_string(end->code));
    if (!complaint.empty()) why.message += ": " + complaint;
    return why;
  }

  frontend_runner_options options_;
};

}  // namespace

frontends::frontend_runner make_frontend_runner(frontend_runner_options options) {
  return runner(std::move(options));
}

}  // namespace kiln::gateway
