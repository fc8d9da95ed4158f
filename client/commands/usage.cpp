// du and prune.
#include <algorithm>

#include <unistd.h>

#include "client/commands/call.hpp"
#include "client/commands/commands.hpp"
#include "client/commands/go_template.hpp"
#include "client/commands/tab_writer.hpp"
#include "client/commands/usage_text.hpp"
#include "client/connect/connect.hpp"
#include "client/terminal_text.hpp"
#include "client/progress/format.hpp"
#include "control.grpc.pb.h"

namespace kiln::client {
namespace {

namespace control = moby::buildkit::v1;

tab_writer table() { return tab_writer(1, 8, 1, '\t'); }

}  // namespace

status run_du(const global_flags& global, const du_flags& flags, interrupt_handler& interrupts) {
  KILN_TRY(auto call, daemon_call::open(global, flags.format, interrupts));
  control::DiskUsageRequest request;
  for (const auto& f : flags.filters) request.add_filter(f);
  control::DiskUsageResponse response;
  KILN_CHECK(unary_call(interrupts, "failed to call diskusage",
                        [&](auto& c) { return call.control->DiskUsage(&c, request, &response); }));
  std::vector<usage_record> records(response.record().begin(), response.record().end());
  std::sort(records.begin(), records.end(), [](const usage_record& a, const usage_record& b) {
    return a.size() != b.size() ? a.size() < b.size() : a.id() < b.id();
  });
  if (call.format) {
    go_value::array list;
    for (const auto& r : records) list.push_back(usage_value(r));
    KILN_TRY(auto text, call.format->render(list));
    return print(text + "\n");
  }
  auto writer = table();
  if (flags.verbose) {
    for (const auto& r : records) writer.write(usage_verbose(r));
  } else {
    writer.write(usage_table_header());
    for (const auto& r : records) writer.write(usage_table_row(r));
  }
  auto out = writer.flush();
  if (flags.filters.empty()) {
    writer.write(usage_summary(records));
    out += writer.flush();
  }
  return print(out);
}

status run_prune(const global_flags& global, const prune_flags& flags, interrupt_handler& interrupts) {
  KILN_TRY(auto call, daemon_call::open(global, flags.format, interrupts));
  control::PruneRequest request;
  for (const auto& f : flags.filters) request.add_filter(f);
  request.set_all(flags.all);
  request.set_keepduration(flags.keep_duration_ns);
  request.set_reservedspace(static_cast<std::int64_t>(flags.keep_storage_min_mb * 1e6));
  request.set_maxusedspace(static_cast<std::int64_t>(flags.keep_storage_mb * 1e6));
  request.set_minfreespace(static_cast<std::int64_t>(flags.free_storage_mb * 1e6));
  auto writer = table();
  bool first = true;
  std::int64_t total = 0;
  KILN_CHECK(read_stream<usage_record>(
      interrupts, "failed to call prune", [&](auto& c) { return call.control->Prune(&c, request); },
      [&](const usage_record& r) -> status {
        total += r.size();
        if (call.format) {
          KILN_TRY(auto text, call.format->render(usage_value(r)));
          return print(text + "\n");
        }
        if (flags.verbose) {
          writer.write(usage_verbose(r));
        } else {
          if (first) writer.write(usage_table_header());
          writer.write(usage_table_row(r));
        }
        first = false;
        return print(writer.flush());
      }));
  if (call.format) return {};
  writer.write("Total:\t" + format_bytes(total) + "\n");
  return print(writer.flush());
}

}  // namespace kiln::client
