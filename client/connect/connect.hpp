// Which daemon a command talks to.
#pragma once

#include <memory>

#include "client/connect/dial.hpp"
#include "client/connect/embedded_daemon.hpp"
#include "client/flags/flags.hpp"
#include "client/interrupt.hpp"

namespace kiln::client {

struct daemon_connection {
  std::unique_ptr<embedded_daemon> embedded;  // outlives the channel
  std::shared_ptr<grpc::Channel> channel;
};

/// What there is to do where no daemon listens.
enum class without_daemon {
  fail,
  start,             // one of our own
  start_where_state  // likewise, where an earlier one left something to look at
};

/// The address given, else the first default socket that accepts, else an embedded daemon already running;
/// else, as `otherwise` says, one of our own. Waits for the daemon as --timeout and --wait say.
result<daemon_connection> connect_daemon(const global_flags& flags, without_daemon otherwise,
                                         interrupt_handler& interrupts);

}  // namespace kiln::client
