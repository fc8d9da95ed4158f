// debug histories, logs, monitor, ctl and get; prune-histories.
#include <algorithm>

#include <unistd.h>

#include <fmt/format.h>

#include "base/digest.hpp"
#include "client/commands/call.hpp"
#include "client/commands/commands.hpp"
#include "client/commands/go_template.hpp"
#include "client/commands/tab_writer.hpp"
#include "client/connect/connect.hpp"
#include "client/progress/display.hpp"
#include "client/progress/format.hpp"
#include "client/progress/status_proto.hpp"
#include "client/terminal_text.hpp"
#include "content.grpc.pb.h"
#include "control.grpc.pb.h"

namespace kiln::client {
namespace {

namespace control = moby::buildkit::v1;
namespace content = containerd::services::content::v1;

std::string local_time(bool present, const google::protobuf::Timestamp& t) {
  return present ? format_rfc3339_local(t.seconds() * 1'000'000'000) : std::string();
}

std::string event_row(const control::BuildHistoryEvent& e) {
  const auto& r = e.record();
  return fmt::format("{}\t{}\t{}\t{}\t{}", control::BuildHistoryEventType_Name(e.type()), one_line(r.ref()),
                     local_time(r.has_createdat(), r.createdat()),
                     local_time(r.has_completedat(), r.completedat()), r.generation());
}

status copy_blob(const std::shared_ptr<grpc::Channel>& channel, const std::string& digest,
                 interrupt_handler& interrupts) {
  auto stub = content::Content::NewStub(channel);
  content::ReadContentRequest request;
  request.set_digest(digest);
  return read_stream<content::ReadContentResponse>(
      interrupts, "read " + digest, [&](auto& c) { return stub->Read(&c, request); },
      [](const content::ReadContentResponse& chunk) { return write_all(STDOUT_FILENO, chunk.data()); });
}

status update_history(control::Control::Stub& stub, const control::UpdateBuildHistoryRequest& request,
                      interrupt_handler& interrupts) {
  control::UpdateBuildHistoryResponse response;
  return unary_call(interrupts, "failed to update history of " + request.ref(),
                    [&](auto& c) { return stub.UpdateBuildHistory(&c, request, &response); });
}

std::string descriptor_text(const control::Descriptor& d) {
  std::string out =
      fmt::format("media_type:\"{}\" digest:\"{}\" size:{}", d.media_type(), d.digest(), d.size());
  std::map<std::string, std::string> annotations(d.annotations().begin(), d.annotations().end());
  for (const auto& [key, value] : annotations)
    out += fmt::format(" annotations:{{key:\"{}\" value:\"{}\"}}", key, value);
  return out;
}

std::string result_text(const control::BuildResultInfo& r, const std::string& prefix) {
  std::string out;
  if (!r.results().empty()) {
    std::map<std::int64_t, control::Descriptor> ordered(r.results().begin(), r.results().end());
    for (const auto& [index, d] : ordered)
      out += fmt::format("  {}descriptor: {}\n", prefix, descriptor_text(d));
  } else if (r.has_resultdeprecated()) {
    out += fmt::format("  {}descriptor: {}\n", prefix, descriptor_text(r.resultdeprecated()));
  }
  for (const auto& a : r.attestations())
    out += fmt::format("  {}attestation: {}\n", prefix, descriptor_text(a));
  return out;
}

std::string monitor_text(const control::BuildHistoryEvent& e) {
  const auto& r = e.record();
  auto out =
      fmt::format("event: {} ref:{}\n", control::BuildHistoryEventType_Name(e.type()), one_line(r.ref()));
  if (r.numtotalsteps() != 0) out += fmt::format("  cache: {}/{}\n", r.numcachedsteps(), r.numtotalsteps());
  if (r.numwarnings() != 0) out += fmt::format("  warnings: {}\n", r.numwarnings());
  if (r.has_logs()) out += fmt::format("  logs: {}\n", descriptor_text(r.logs()));
  if (r.has_trace()) out += fmt::format("  trace: {}\n", descriptor_text(r.trace()));
  if (r.has_result()) out += result_text(r.result(), "");
  std::map<std::string, control::BuildResultInfo> ordered(r.results().begin(), r.results().end());
  for (const auto& [platform, info] : ordered) out += result_text(info, fmt::format("[{}] ", platform));
  return out;
}

result<control::BuildHistoryRecord> find_record(control::Control::Stub& stub, const std::string& ref,
                                                interrupt_handler& interrupts) {
  control::BuildHistoryRequest request;
  request.set_ref(ref);
  request.set_earlyexit(true);
  std::optional<control::BuildHistoryRecord> record;
  KILN_CHECK(read_stream<control::BuildHistoryEvent>(
      interrupts, "failed to list history", [&](auto& c) { return stub.ListenBuildHistory(&c, request); },
      [&](const control::BuildHistoryEvent& e) -> status {
        if (!record && e.has_record()) record = e.record();
        return {};
      }));
  if (!record) return make_error(errc::not_found, fmt::format("ref {} not found", ref));
  return *std::move(record);
}

status show_trace(const daemon_connection& connection, const std::string& ref,
                  interrupt_handler& interrupts) {
  auto stub = control::Control::NewStub(connection.channel);
  KILN_TRY(auto record, find_record(*stub, ref, interrupts));
  if (!record.has_trace()) {
    // Daemons may wait until somebody wants it.
    control::UpdateBuildHistoryRequest finalize;
    finalize.set_ref(ref);
    finalize.set_finalize(true);
    KILN_CHECK(update_history(*stub, finalize, interrupts));
    KILN_TRY(record, find_record(*stub, ref, interrupts));
  }
  if (!record.has_trace()) return make_error(errc::not_found, fmt::format("ref {} does not have trace", ref));
  return copy_blob(connection.channel, record.trace().digest(), interrupts);
}

}  // namespace

// Source: buildctl debug/histories.go.
status run_histories(const global_flags& global, const histories_flags& flags,
                     interrupt_handler& interrupts) {
  KILN_TRY(auto call, daemon_call::open(global, flags.format, interrupts));
  control::BuildHistoryRequest request;
  request.set_earlyexit(true);
  tab_writer writer(1, 8, 1, '\t');
  if (!call.format) writer.write("TYPE\tREF\tCREATED\tCOMPLETED\tGENERATION\tPINNED\n");
  KILN_CHECK(read_stream<control::BuildHistoryEvent>(
      interrupts, "failed to list history",
      [&](auto& c) { return call.control->ListenBuildHistory(&c, request); },
      [&](const control::BuildHistoryEvent& e) -> status {
        if (call.format) {
          KILN_TRY(auto text, call.format->render(from_message(e)));
          return print(text + "\n");
        }
        writer.write(event_row(e) + (e.record().pinned() ? "\t*\n" : "\t\n"));
        return print(writer.flush());
      }));
  return print(writer.flush());
}

// Source: buildctl prunehistories.go.
status run_prune_histories(const global_flags& global, const prune_histories_flags& flags,
                           interrupt_handler& interrupts) {
  KILN_TRY(auto call, daemon_call::open(global, flags.format, interrupts));
  control::BuildHistoryRequest request;
  request.set_earlyexit(true);
  tab_writer writer(1, 8, 1, '\t');
  if (!call.format) writer.write("TYPE\tREF\tCREATED\tCOMPLETED\tGENERATION\n");
  status failed;
  KILN_CHECK(read_stream<control::BuildHistoryEvent>(
      interrupts, "failed to list history",
      [&](auto& c) { return call.control->ListenBuildHistory(&c, request); },
      [&](const control::BuildHistoryEvent& e) -> status {
        if (!e.has_record() || e.record().pinned()) return {};
        control::UpdateBuildHistoryRequest update;
        update.set_ref(e.record().ref());
        update.set_delete_(true);
        if (auto deleted = update_history(*call.control, update, interrupts); !deleted.ok()) {
          if (failed.ok()) failed = std::move(deleted);
          return {};
        }
        if (call.format) {
          KILN_TRY(auto text, call.format->render(from_message(e)));
          return print(text + "\n");
        }
        writer.write(event_row(e) + "\n");
        return print(writer.flush());
      }));
  KILN_CHECK(print(writer.flush()));
  return failed;
}

// Source: buildctl debug/logs.go.
status run_logs(const global_flags& global, const logs_flags& flags, interrupt_handler& interrupts) {
  if (flags.ref.empty()) return make_error(errc::invalid_argument, "build ref must be specified");
  KILN_TRY(auto mode, parse_progress_mode(flags.progress));
  KILN_TRY(auto connection, connect_daemon(global, false, interrupts));
  if (flags.trace) return show_trace(connection, flags.ref, interrupts);
  auto stub = control::Control::NewStub(connection.channel);
  control::StatusRequest request;
  request.set_ref(flags.ref);
  KILN_TRY(auto shown, make_display(mode, STDOUT_FILENO));
  display_runner runner(std::move(shown));
  auto read = read_stream<control::StatusResponse>(
      interrupts, "failed to get status", [&](auto& c) { return stub->Status(&c, request); },
      [&](const control::StatusResponse& response) -> status {
        runner.push(from_proto(response));
        return {};
      });
  runner.finish();
  return read;
}

// Source: buildctl debug/monitor.go.
status run_monitor(const global_flags& global, const monitor_flags& flags, interrupt_handler& interrupts) {
  KILN_TRY(auto connection, connect_daemon(global, false, interrupts));
  auto stub = control::Control::NewStub(connection.channel);
  control::BuildHistoryRequest request;
  request.set_activeonly(!flags.completed);
  request.set_ref(flags.ref);
  return read_stream<control::BuildHistoryEvent>(
      interrupts, "failed to listen to history",
      [&](auto& c) { return stub->ListenBuildHistory(&c, request); },
      [](const control::BuildHistoryEvent& e) { return print(monitor_text(e)); });
}

// Source: buildctl debug/get.go.
status run_get(const global_flags& global, const get_flags& flags, interrupt_handler& interrupts) {
  if (flags.digest.empty()) return make_error(errc::invalid_argument, "blob digest must be specified");
  KILN_TRY(auto d, digest::parse(flags.digest));
  KILN_TRY(auto connection, connect_daemon(global, false, interrupts));
  return copy_blob(connection.channel, d.str(), interrupts);
}

// Source: buildctl debug/ctl.go.
status run_ctl(const global_flags& global, const ctl_flags& flags, interrupt_handler& interrupts) {
  auto refuse = [](const char* why) { return make_error(errc::invalid_argument, why); };
  if (flags.ref.empty()) return refuse("build ref must be specified");
  if (!flags.pin && !flags.unpin && !flags.remove)
    return refuse("must specify one of --pin, --unpin, --delete");
  if (flags.pin && flags.unpin) return refuse("cannot specify both --pin and --unpin");
  if (flags.remove && (flags.pin || flags.unpin))
    return refuse("cannot specify --delete with --pin or --unpin");
  KILN_TRY(auto connection, connect_daemon(global, false, interrupts));
  auto stub = control::Control::NewStub(connection.channel);
  control::UpdateBuildHistoryRequest request;
  request.set_ref(flags.ref);
  request.set_pinned(flags.pin);
  request.set_delete_(flags.remove);
  return update_history(*stub, request, interrupts);
}

}  // namespace kiln::client
