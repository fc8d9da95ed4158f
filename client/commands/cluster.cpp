#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <sstream>

#include <fmt/format.h>

#include "base/pause.hpp"
#include "base/files.hpp"
#include "client/commands/call.hpp"
#include "client/commands/commands.hpp"
#include "client/commands/go_template.hpp"
#include "client/commands/tab_writer.hpp"
#include "client/connect/connect.hpp"
#include "client/terminal_text.hpp"
#include "client/progress/format.hpp"
#include "configs/certificates.hpp"
#include "configs/cluster.hpp"
#include "kiln_cluster.grpc.pb.h"
#include "messages/cluster_text.hpp"

namespace kiln::client {
namespace {

namespace fs = std::filesystem;

constexpr std::chrono::milliseconds drain_poll{250};

go_value node_value(const v1::Node& n) {
  return go_value::object{{{"name", n.name()},
                           {"state", n.state()},
                           {"reason", n.reason(), true},
                           {"role", n.role()},
                           {"version", n.version()},
                           {"controlAddress", n.control_address()},
                           {"dataAddress", n.data_address()},
                           {"slots", std::int64_t{n.slots()}},
                           {"running", std::int64_t{n.running()}},
                           {"waiting", std::int64_t{n.waiting()}},
                           {"draining", n.draining()},
                           {"refs", std::int64_t{n.refs()}},
                           {"bytesIn", std::int64_t{n.bytes_in()}},
                           {"bytesOut", std::int64_t{n.bytes_out()}},
                           {"diskFree", std::int64_t{n.disk_free()}},
                           {"roundTripNs", std::int64_t{n.round_trip_ns()}},
                           {"workerId", n.worker_id()}}};
}

std::string node_row(const v1::Node& n) {
  bool here = n.state() == "self", there = n.state() == "up" || n.state() == "draining";
  std::string cell = "-";
  auto known = [&](std::string text) { return here || there ? std::move(text) : std::string("-"); };
  auto why = n.version();
  if (!n.reason().empty()) why += (why.empty() ? "" : " ") + ("(" + n.reason() + ")");
  return fmt::format("{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\n",
                     n.name().empty() ? n.control_address() : n.name(),
                     here && n.draining() ? "draining" : n.state(), n.role().empty() ? cell : n.role(),
                     known(fmt::format("{}/{}", n.running(), n.slots())), known(std::to_string(n.waiting())),
                     known(std::to_string(n.refs())), known(format_bytes_short(n.bytes_in())),
                     known(format_bytes_short(n.bytes_out())), known(format_bytes_short(n.disk_free())),
                     there ? fmt::format("{:.1f}ms", static_cast<double>(n.round_trip_ns()) / 1e6) : cell,
                     why.empty() ? cell : why);
}

/// Never over a file that is there.
status write_new(const fs::path& path, std::string_view text, mode_t mode) {
  int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
  if (fd < 0) return errno_error(errno, path.string());
  auto written = write_all(fd, text);
  ::close(fd);
  return written;
}

struct wanted_node {
  std::string name;
  std::vector<std::string> hosts;
};

result<wanted_node> parse_node(const std::string& text) {
  auto equals = text.find('=');
  wanted_node out{text.substr(0, equals), {}};
  if (!is_node_name(out.name))
    return make_error(
        errc::invalid_argument,
        "\"" + out.name + "\" is no name of a node: letters, digits, dots, dashes and underscores");
  if (equals == std::string::npos) return out;
  std::stringstream hosts(text.substr(equals + 1));
  for (std::string host; std::getline(hosts, host, ',');) {
    if (!parse_host_port(join_host_port(host, 1)))
      return make_error(errc::invalid_argument, out.name + ": \"" + host + "\" is no host");
    out.hosts.push_back(host);
  }
  return out;
}

result<v1::NodesResponse> list_nodes(v1::Cluster::Stub& stub, interrupt_handler& interrupts) {
  v1::NodesResponse out;
  KILN_CHECK(
      unary_call(interrupts, "failed to list nodes", [&](auto& c) { return stub.Nodes(&c, {}, &out); }));
  return out;
}

/// A node says of itself that it is drained; to the others it is gone.
bool has_left(const v1::NodesResponse& nodes, const std::string& name) {
  for (const auto& n : nodes.nodes())
    if (n.name() == name) return n.state() == "self" ? n.reason() == "drained" : n.state() == "down";
  return true;
}

}  // namespace

status run_cluster(const global_flags& global, const cluster_flags& flags, interrupt_handler& interrupts) {
  std::optional<go_template> format;
  if (!flags.format.empty()) {
    KILN_TRY(format, go_template::parse(flags.format));
  }
  KILN_TRY(auto connection, connect_daemon(global, without_daemon::fail, interrupts));
  auto stub = v1::Cluster::NewStub(connection.channel);
  KILN_TRY(auto response, list_nodes(*stub, interrupts));
  if (format) {
    go_value::array list;
    for (const auto& n : response.nodes()) list.push_back(node_value(n));
    KILN_TRY(auto text, format->render(list));
    return print(text + "\n");
  }
  tab_writer writer(1, 8, 2, ' ');
  writer.write("NODE\tSTATE\tROLE\tLOAD\tWAITING\tREFS\tIN\tOUT\tDISK FREE\tROUND TRIP\tVERSION\n");
  for (const auto& n : response.nodes()) writer.write(node_row(n));
  return print(writer.flush());
}

status run_cluster_drain(const global_flags& global, const cluster_drain_flags& flags,
                         interrupt_handler& interrupts) {
  KILN_TRY(auto connection, connect_daemon(global, without_daemon::fail, interrupts));
  auto stub = v1::Cluster::NewStub(connection.channel);
  v1::DrainRequest request;
  request.set_name(flags.node);
  v1::DrainResponse response;
  KILN_CHECK(unary_call(interrupts, "failed to drain",
                        [&](auto& c) { return stub->Drain(&c, request, &response); }));
  while (flags.wait) {
    KILN_TRY(auto nodes, list_nodes(*stub, interrupts));
    if (has_left(nodes, flags.node)) break;
    if (!pause_for(drain_poll, interrupts.token()))
      return make_error(errc::cancelled, "interrupted; the node still drains");
  }
  return {};
}

status run_cluster_certs(const cluster_certs_flags& flags) {
  std::vector<wanted_node> nodes;
  for (const auto& text : flags.nodes) {
    KILN_TRY(auto node, parse_node(text));
    if (node.name == "ca")
      return make_error(errc::invalid_argument, "\"ca\" is the name of the CA's own files");
    nodes.push_back(std::move(node));
  }
  fs::path directory = flags.directory;
  std::error_code failed;
  fs::create_directories(directory, failed);
  if (failed) return errno_error(failed.value(), flags.directory);
  auto now = std::time(nullptr);
  configs::certificate_pair ca;
  if (fs::exists(directory / "ca.pem")) {
    KILN_TRY(ca.cert, read_file(directory / "ca.pem", configs::pem_bytes_max));
    KILN_TRY(ca.key, read_file(directory / "ca.key", configs::pem_bytes_max));
  } else {
    KILN_TRY(ca, configs::make_authority("Kiln cluster", now, configs::cluster::authority_validity));
    KILN_CHECK(write_new(directory / "ca.key", ca.key, 0600));
    KILN_CHECK(write_new(directory / "ca.pem", ca.cert, 0644));
  }
  for (const auto& node : nodes) {
    KILN_TRY(auto pair, configs::make_certificate(ca, node.name, node.hosts, now,
                                                  configs::cluster::certificate_validity));
    KILN_CHECK(write_new(directory / (node.name + ".key"), pair.key, 0600));
    KILN_CHECK(write_new(directory / (node.name + ".pem"), pair.cert, 0644));
  }
  return {};
}

}  // namespace kiln::client
