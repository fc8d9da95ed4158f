#include "client/run.hpp"

#include <cstdio>
#include <cstdlib>

#include <unistd.h>

#include <fmt/format.h>

#include "client/build/build_command.hpp"
#include "client/build/snippet.hpp"
#include "client/connect/dial_stdio.hpp"
#include "client/fd.hpp"
#include "client/flags/flags.hpp"
#include "client/interrupt.hpp"

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
  template <class Flags>
  status operator()(const Flags&) const {
    return make_error(errc::unimplemented, "not there yet");
  }
};

void print_error(const error& e, bool debug) {
  for (const auto& source : error_sources(e)) fmt::print(stderr, "{}", render_snippet(source));
  for (const auto& message : deny_messages(e)) fmt::print(stderr, "policy deny: {}\n", message);
  fmt::print(stderr, "error: {}\n", e.message);
  if (debug)
    for (const auto& detail : e.details) fmt::print(stderr, "  {}: {}\n", detail.type_url, detail.value);
}

}  // namespace

int run(const std::string& program, const std::vector<std::string>& arguments) {
  // Loggers of libraries must not write into the display.
  ::setenv("GRPC_VERBOSITY", "NONE", 0);
  auto line = parse_command_line(program, arguments);
  if (!line.ok()) {
    fmt::print(stderr, "error: {}\n", line.error().message);
    return 1;
  }
  interrupt_handler interrupts;
  auto done = std::visit(runner{line->global, interrupts}, line->command);
  if (done.ok()) return 0;
  print_error(done.error(), line->global.debug);
  return 1;
}

}  // namespace kiln::client
