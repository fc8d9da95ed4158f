// One call of the daemon with everything the commands share: cancellation and errors as values.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include <grpcpp/grpcpp.h>

#include "base/result.hpp"
#include "client/commands/go_template.hpp"
#include "client/connect/code_name.hpp"
#include "client/connect/connect.hpp"
#include "client/flags/flags.hpp"
#include "client/interrupt.hpp"
#include "control.grpc.pb.h"

namespace kiln::client {

/// What every command that asks the daemon begins with: its format, if there is one, and the connection.
struct daemon_call {
  std::optional<go_template> format;
  daemon_connection connection;
  std::unique_ptr<moby::buildkit::v1::Control::Stub> control;

  static result<daemon_call> open(const global_flags& global, const std::string& format_text,
                                  without_daemon otherwise, interrupt_handler& interrupts) {
    daemon_call out;
    if (!format_text.empty()) {
      KILN_TRY(out.format, go_template::parse(format_text));
    }
    KILN_TRY(out.connection, connect_daemon(global, otherwise, interrupts));
    out.control = moby::buildkit::v1::Control::NewStub(out.connection.channel);
    return out;
  }
};

/// Makes a unary call: `rpc(context)` returns its grpc::Status. `what` prefixes the error.
template <class Rpc>
status unary_call(interrupt_handler& interrupts, std::string_view what, Rpc rpc) {
  grpc::ClientContext context;
  std::stop_callback cancel(interrupts.token(), [&] { context.TryCancel(); });
  grpc::Status s = rpc(context);
  if (s.ok()) return {};
  return with_code_name(from_grpc(s)).with_context(what);
}

/// Reads a server stream to its end: `open(context)` starts it, `each(message)` may fail and thereby end it.
template <class Message, class Open, class Each>
status read_stream(interrupt_handler& interrupts, std::string_view what, Open open, Each each) {
  grpc::ClientContext context;
  std::stop_callback cancel(interrupts.token(), [&] { context.TryCancel(); });
  std::unique_ptr<grpc::ClientReader<Message>> reader = open(context);
  Message message;
  status failed;
  while (failed.ok() && reader->Read(&message)) failed = each(message);
  if (!failed.ok()) {
    context.TryCancel();
    reader->Finish();
    return failed;
  }
  auto s = reader->Finish();
  if (s.ok() || (s.error_code() == grpc::StatusCode::CANCELLED && interrupts.token().stop_requested()))
    return {};
  return with_code_name(from_grpc(s)).with_context(what);
}

}  // namespace kiln::client
