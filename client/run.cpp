#include "client/run.hpp"

#include <cstdio>
#include <cstdlib>

#include <unistd.h>

#include <fmt/format.h>

#include "base/plain_text.hpp"
#include "client/build/build_command.hpp"
#include "client/build/snippet.hpp"
#include "client/commands/commands.hpp"
#include "client/connect/dial_stdio.hpp"
#include "client/fd.hpp"
#include "client/flags/flags.hpp"
#include "client/interrupt.hpp"
#include "client/warning.hpp"
#include "messages/stack_text.hpp"

namespace kiln::client {
namespace {

struct runner {
  const global_flags& global;
  interrupt_handler& interrupts;

  status operator()(const print_flags& f) const { return write_all(STDOUT_FILENO, f.text); }
  status operator()(const build_flags& f) const { return run_build(global, f, interrupts); }
  status operator()(const dial_stdio_flags&) const {
    auto address = global.address.empty() ? "unix:///run/buildkit/buildkitd.sock" : global.address;
    return dial_stdio(address, STDIN_FILENO, STDOUT_FILENO);
  }
  status operator()(const du_flags& f) const { return run_du(global, f, interrupts); }
  status operator()(const prune_flags& f) const { return run_prune(global, f, interrupts); }
  status operator()(const prune_histories_flags& f) const {
    return run_prune_histories(global, f, interrupts);
  }
  status operator()(const workers_flags& f) const { return run_workers(global, f, interrupts); }
  status operator()(const info_flags& f) const { return run_info(global, f, interrupts); }
  status operator()(const histories_flags& f) const { return run_histories(global, f, interrupts); }
  status operator()(const logs_flags& f) const { return run_logs(global, f, interrupts); }
  status operator()(const monitor_flags& f) const { return run_monitor(global, f, interrupts); }
  status operator()(const get_flags& f) const { return run_get(global, f, interrupts); }
  status operator()(const ctl_flags& f) const { return run_ctl(global, f, interrupts); }
  status operator()(const cluster_flags& f) const { return run_cluster(global, f, interrupts); }
  status operator()(const cluster_drain_flags& f) const { return run_cluster_drain(global, f, interrupts); }
  status operator()(const cluster_certs_flags& f) const { return run_cluster_certs(f); }
  status operator()(const dump_llb_flags& f) const { return run_dump_llb(f); }
  status operator()(const dump_metadata_flags& f) const { return run_dump_metadata(f); }
};

void print_error(const error& e, bool debug) {
  std::string text;
  for (const auto& source : error_sources(e)) text += render_snippet(source);
  for (const auto& message : deny_messages(e)) text += fmt::format("policy deny: {}\n", message);
  text += fmt::format("error: {}\n", e.message);
  if (debug) {
    text += stack_text(e);
    for (const auto& detail : e.details)
      if (detail.type_url != stack_detail_type)
        text += fmt::format("  {}: {}\n", detail.type_url, detail.value);
  }
  fmt::print(stderr, "{}", printable(text));
}

}  // namespace

int run(const std::string& program, const std::vector<std::string>& arguments) {
  // Loggers of libraries must not write into the display.
  ::setenv("GRPC_VERBOSITY", "NONE", 0);
  auto line = parse_command_line(program, arguments);
  if (!line.ok()) {
    print_error(line.error(), false);
    return 1;
  }
  warn_as_json(line->global.log_format == "json");
  interrupt_handler interrupts;
  auto done = std::visit(runner{line->global, interrupts}, line->command);
  if (done.ok()) return 0;
  print_error(done.error(), line->global.debug);
  return 1;
}

}  // namespace kiln::client
