// debug workers and debug info.
#include <unistd.h>

#include <fmt/format.h>

#include "base/duration.hpp"
#include "client/commands/call.hpp"
#include "client/commands/commands.hpp"
#include "client/commands/go_template.hpp"
#include "client/commands/tab_writer.hpp"
#include "client/connect/connect.hpp"
#include "client/terminal_text.hpp"
#include "client/progress/format.hpp"
#include "control.grpc.pb.h"
#include "messages/platform.hpp"

namespace kiln::client {
namespace {

namespace control = moby::buildkit::v1;
namespace types = moby::buildkit::v1::types;

template <class Map>
go_value map_value(const Map& entries) {
  if (entries.empty()) return {};
  go_value::map out;
  for (const auto& [key, value] : entries) out.set(key, value);
  return out;
}

template <class Map>
std::map<std::string, std::string> sorted(const Map& entries) {
  return {entries.begin(), entries.end()};
}

go_value version_value(const types::BuildkitVersion& v) {
  return go_value::object{{{"package", v.package()},
                           {"version", v.version()},
                           {"revision", v.revision()},
                           {"dockerfileVersion", v.dockerfileversion(), true}}};
}

go_value platform_value(const pb::Platform& p) {
  go_value::array features;
  for (const auto& f : p.osfeatures()) features.push_back(f);
  return go_value::object{{{"architecture", p.architecture()},
                           {"os", p.os()},
                           {"os.version", p.osversion(), true},
                           {"os.features", std::move(features), true},
                           {"variant", p.variant(), true}}};
}

go_value policy_value(const types::GCPolicy& p) {
  go_value filters;
  if (p.filters_size() > 0) {
    go_value::array list;
    for (const auto& f : p.filters()) list.push_back(f);
    filters = std::move(list);
  }
  return go_value::object{{{"all", p.all()},
                           {"filter", std::move(filters)},
                           {"keepDuration", std::int64_t{p.keepduration()}},
                           {"reservedSpace", std::int64_t{p.reservedspace()}},
                           {"maxUsedSpace", std::int64_t{p.maxusedspace()}},
                           {"minFreeSpace", std::int64_t{p.minfreespace()}}}};
}

go_value worker_value(const types::WorkerRecord& w) {
  go_value::array platforms, policies;
  for (const auto& p : w.platforms()) platforms.push_back(platform_value(p));
  for (const auto& p : w.gcpolicy()) policies.push_back(policy_value(p));
  go_value devices;
  if (w.cdidevices_size() > 0) {
    go_value::array list;
    for (const auto& d : w.cdidevices())
      list.push_back(go_value::object{{{"name", d.name()},
                                       {"autoAllow", d.autoallow()},
                                       {"annotations", map_value(d.annotations())},
                                       {"onDemand", d.ondemand()}}});
    devices = std::move(list);
  }
  return go_value::object{{{"id", w.id()},
                           {"labels", map_value(w.labels())},
                           {"platforms", std::move(platforms)},
                           {"gcPolicy", std::move(policies)},
                           {"buildkitVersion", version_value(w.buildkitversion())},
                           {"cdiDevices", std::move(devices)}}};
}

std::string platforms_text(const types::WorkerRecord& w) {
  std::string out;
  for (const auto& p : w.platforms())
    out += (out.empty() ? "" : ",") + format_platform(normalize(kiln::from_proto(p)));
  return out;
}

std::string verbose(const types::WorkerRecord& w) {
  const auto& v = w.buildkitversion();
  std::string out = fmt::format("ID:\t{}\nPlatforms:\t{}\nBuildKit:\t{} {} {}\n", w.id(), platforms_text(w),
                                v.package(), v.version(), v.revision());
  if (!v.dockerfileversion().empty()) out += fmt::format("Dockerfile:\t{}\n", v.dockerfileversion());
  out += "Labels:\n";
  for (const auto& [key, value] : sorted(w.labels())) out += fmt::format("\t{}:\t{}\n", key, value);
  if (w.cdidevices_size() > 0) {
    out += "Devices:\n";
    for (const auto& d : w.cdidevices()) {
      out += fmt::format("\tName:\t{}\n", d.name());
      out += d.ondemand() ? std::string("\tOnDemand:\ttrue\n")
                          : fmt::format("\tAutoAllow:\t{}\n", d.autoallow());
      for (const auto& [key, value] : sorted(d.annotations()))
        out += fmt::format("\tAnnotations:\t{}:\t{}\n", key, value);
    }
    out += "\n";
  }
  int rule = 0;
  for (const auto& p : w.gcpolicy()) {
    out += fmt::format("GC Policy rule#{}:\n\tAll:\t{}\n", rule++, p.all());
    if (p.filters_size() > 0) out += fmt::format("\tFilters:\t{}\n", fmt::join(p.filters(), " "));
    if (p.keepduration() > 0) out += fmt::format("\tKeep duration:\t{}\n", format_duration(p.keepduration()));
    if (p.reservedspace() > 0)
      out += fmt::format("\tReserved space:\t{}\n", format_bytes_short(p.reservedspace()));
    if (p.minfreespace() > 0)
      out += fmt::format("\tMinimum free space:\t{}\n", format_bytes_short(p.minfreespace()));
    if (p.maxusedspace() > 0)
      out += fmt::format("\tMaximum used space:\t{}\n", format_bytes_short(p.maxusedspace()));
  }
  return out + "\n";
}

}  // namespace

// Source: buildctl debug/workers.go.
status run_workers(const global_flags& global, const workers_flags& flags, interrupt_handler& interrupts) {
  KILN_TRY(auto call, daemon_call::open(global, flags.format, without_daemon::fail, interrupts));
  control::ListWorkersRequest request;
  for (const auto& f : flags.filters) request.add_filter(f);
  control::ListWorkersResponse response;
  KILN_CHECK(unary_call(interrupts, "failed to list workers",
                        [&](auto& c) { return call.control->ListWorkers(&c, request, &response); }));
  if (call.format) {
    go_value::array list;
    for (const auto& w : response.record()) list.push_back(worker_value(w));
    KILN_TRY(auto text, call.format->render(list));
    return print(text + "\n");
  }
  tab_writer writer(1, 8, 1, '\t');
  if (!flags.verbose) writer.write("ID\tPLATFORMS\n");
  for (const auto& w : response.record())
    writer.write(flags.verbose ? verbose(w) : fmt::format("{}\t{}\n", w.id(), platforms_text(w)));
  return print(writer.flush());
}

// Source: buildctl debug/info.go.
status run_info(const global_flags& global, const info_flags& flags, interrupt_handler& interrupts) {
  KILN_TRY(auto call, daemon_call::open(global, flags.format, without_daemon::fail, interrupts));
  control::InfoResponse response;
  KILN_CHECK(unary_call(interrupts, "failed to call info",
                        [&](auto& c) { return call.control->Info(&c, {}, &response); }));
  const auto& v = response.buildkitversion();
  if (call.format) {
    KILN_TRY(auto text, call.format->render(go_value::object{{{"buildkitVersion", version_value(v)}}}));
    return print(text + "\n");
  }
  tab_writer writer(0, 0, 1, ' ');
  writer.write(fmt::format("BuildKit:\t{} {} {}\n", v.package(), v.version(), v.revision()));
  if (!v.dockerfileversion().empty()) writer.write(fmt::format("Dockerfile:\t{}\n", v.dockerfileversion()));
  return print(writer.flush());
}

}  // namespace kiln::client
